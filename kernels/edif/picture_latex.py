r"""Writes a picture of a result as a LaTeX table; it needs ``\usepackage[table]{xcolor}`` and XeLaTeX or LuaLaTeX.

Called by :class:`edif.result.Result`; runs in the user's process.
"""

from __future__ import annotations

from edif import colours
from edif.picture_parts import NAN, NOTHING, Cell, Chart, Line, Panel, Picture, signed

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "␣": r"\textvisiblespace{}",
    "↵": r"$\hookleftarrow$",
    "−": "$-$",
    "→": r"$\to$",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{one: f"\\{one}" for one in "&%$#_"},
}


def latex(picture: Picture) -> str:
    """One ``tabular`` for each panel and chart, in a ``table`` whose caption says what it is; colours as in light."""
    caption = ". ".join(part for part in (picture.title, picture.origin, picture.meaning, picture.foot) if part)
    panels = "\n\n".join([*map(_tabular, picture.panels), *map(_figures, picture.charts)])
    needs = "% needs \\usepackage[table]{xcolor}, and XeLaTeX or LuaLaTeX for tokens that are not ASCII"
    return "\n".join(
        [needs, r"\begin{table}\centering\scriptsize", panels, rf"\caption{{{escaped(caption)}.}}", r"\end{table}", ""]
    )


def escaped(text: str) -> str:
    """Text in which nothing is a command."""
    return "".join(_SIGNS.get(one, one) for one in text)


def _tabular(panel: Panel) -> str:
    count = len(panel.columns)
    heads = " & ".join([escaped(panel.corner), *(rf"\texttt{{{escaped(name)}}}" for name in panel.columns)])
    rows = [
        rf"{escaped(row.name)} & {' & '.join(_cell(cell) for cell in row.cells)} \\"
        if row.cells
        else rf" & \multicolumn{{{count}}}{{c}}{{\textit{{{escaped(row.name)}}}}} \\"
        for row in panel.rows
    ]
    named = [rf"\textbf{{{escaped(panel.name)}}}\\[2pt]"] if panel.name else []
    return "\n".join([*named, rf"\begin{{tabular}}{{r{'c' * count}}}", rf"{heads} \\", *rows, r"\end{tabular}"])


def _figures(chart: Chart) -> str:
    """Each line's values downwards, with the interval around them."""
    heads = " & ".join(escaped(name) for name in (chart.along, *(line.name for line in chart.lines)))
    rows = [
        rf"{escaped(f'{x:g}')} & {' & '.join(_around(line, place) for line in chart.lines)} \\"
        for place, x in enumerate(chart.x)
    ]
    begin = rf"\begin{{tabular}}{{r{'l' * len(chart.lines)}}}"
    return "\n".join([rf"\textbf{{{escaped(chart.name)}}}\\[2pt]", begin, rf"{heads} \\", *rows, r"\end{tabular}"])


def _around(line: Line, place: int) -> str:
    low, high = (some[place] if some else NAN for some in (line.low, line.high))
    interval = f" [{signed(low)}, {signed(high)}]" if low == low and high == high else ""  # noqa: PLR0124
    return escaped(signed(line.values[place]) + interval)


def _cell(cell: Cell) -> str:
    text = rf"\texttt{{{escaped(cell.text)}}}" if cell.text else escaped(cell.figure)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    if cell.step in ("", NOTHING):
        return text
    ground, ink = (found(cell.step, "light")[1:].upper() for found in (colours.ground, colours.ink))
    return rf"\cellcolor[HTML]{{{ground}}}\textcolor[HTML]{{{ink}}}{{{text}}}"
