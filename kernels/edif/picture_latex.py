r"""Writes a picture of a result as a LaTeX table; it needs ``\usepackage[table]{xcolor}`` and XeLaTeX or LuaLaTeX.

Called by :class:`edif.result.Result`; runs in the user's process.
"""

from __future__ import annotations

from edif import colours
from edif.picture import Cell, Panel, Picture

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
    """One ``tabular`` for each panel, in a ``table`` whose caption says what it is; colours are those for light."""
    caption = ". ".join(part for part in (picture.title, picture.origin, picture.meaning, picture.foot) if part)
    panels = "\n\n".join(_tabular(panel) for panel in picture.panels)
    needs = "% needs \\usepackage[table]{xcolor}, and XeLaTeX or LuaLaTeX for tokens that are not ASCII"
    return "\n".join(
        [needs, r"\begin{table}\centering\scriptsize", panels, rf"\caption{{{escaped(caption)}.}}", r"\end{table}", ""]
    )


def escaped(text: str) -> str:
    """Text in which nothing is a command."""
    return "".join(_SIGNS.get(one, one) for one in text)


def _tabular(panel: Panel) -> str:
    count = len(panel.columns)
    heads = " & ".join(["layer", *(rf"\texttt{{{escaped(name)}}}" for name in panel.columns)])
    rows = [
        rf"{row.name} & {' & '.join(_cell(cell) for cell in row.cells)} \\"
        if row.cells
        else rf" & \multicolumn{{{count}}}{{c}}{{\textit{{{escaped(row.name)}}}}} \\"
        for row in panel.rows
    ]
    named = [rf"\textbf{{{escaped(panel.name)}}}\\[2pt]"] if panel.name else []
    return "\n".join([*named, rf"\begin{{tabular}}{{r{'c' * count}}}", rf"{heads} \\", *rows, r"\end{tabular}"])


def _cell(cell: Cell) -> str:
    text = rf"\texttt{{{escaped(cell.text)}}}" if cell.text else escaped(cell.figure)
    text = rf"\textbf{{{text}}}" if cell.bold else text
    if not cell.step:
        return text
    ground, ink = (found(cell.step, "light")[1:].upper() for found in (colours.ground, colours.ink))
    return rf"\cellcolor[HTML]{{{ground}}}\textcolor[HTML]{{{ink}}}{{{text}}}"
