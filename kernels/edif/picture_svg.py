"""Writes a picture of a result as SVG, and that as PNG.

PNG is made by resvg (through ``resvg-py``: one wheel, no system library); letters come from the machine's fonts.
Called by :class:`edif.result.Result`; runs in the user's process.
"""

from __future__ import annotations

import functools
import math
import unicodedata
from xml.sax.saxutils import escape, quoteattr

import resvg_py

from edif import colours
from edif.colours import Theme
from edif.errors import EdifError
from edif.picture_chart import WIDE, Plot, high
from edif.picture_parts import NOTHING, Cell, Panel, Picture

_MONO = "'DejaVu Sans Mono', ui-monospace, Menlo, Consolas, monospace"
_SANS = "'DejaVu Sans', system-ui, 'Segoe UI', Helvetica, Arial, sans-serif"
_LOOK = {
    "light": {"ground": "#ffffff", "text": "#14161a", "muted": "#5b6270", "line": "#dfe3ea", "quiet": "#eef1f5"},
    "dark": {"ground": "#181b21", "text": "#f2f4f8", "muted": "#a9b0bd", "line": "#323843", "quiet": "#262b34"},
}
_ORANGE = {"light": "#b3590f", "dark": "#ff9d3c"}
_BLUE = {"light": "#2850a0", "dark": "#79b0ff"}
#: Sides of a small square and what is around it; so many stand in a row, and so many charts.
_SQUARE, _AROUND, _SQUARES, _CHARTS = 96.0, 14.0, 6, 3
_LETTER = 7.3  #: width of a letter of 12 px in a monospaced font
_EDGE, _GAP, _NAMES = 16.0, 32.0, 44.0
_STEPPED = 11.0  #: height of a cell of a map
#: Of more layers than this every fifth is named in a map.
_MANY = 16
#: More pixels than this would take a reader's memory.
_MOST_PIXELS = 40_000_000


class PictureImpossible(EdifError):
    """A PNG cannot be made: it would be too large, or there is no font to write with."""


def svg(picture: Picture, theme: Theme = "light") -> str:
    """The picture as an SVG document of its own, without scripts and links."""
    return _Drawing(picture, theme).document()


def png(document: str, scale: float = 2.0) -> bytes:
    """An SVG document as PNG, ``scale`` pixels to each of its units.

    Raises:
        PictureImpossible: no font was found, or the picture would have too many pixels.
    """
    if not _letters_are_drawn():
        raise PictureImpossible(
            "No font is installed here, so a picture would have no letters: install one (Debian, Ubuntu: "
            "apt-get install fonts-dejavu-core) and start the kernel again, or use .to_svg()."
        )
    width, height = _size(document)
    if width * height * scale**2 > _MOST_PIXELS:
        fits = math.sqrt(_MOST_PIXELS / (width * height))
        raise PictureImpossible(
            f"The PNG would have {width * height * scale**2 / 1e6:.0f} million pixels: "
            f"ask for scale={math.floor(fits * 10) / 10:g} or less, or use .to_svg()."
        )
    return bytes(resvg_py.svg_to_bytes(svg_string=document, zoom=scale))


def several(documents: list[str], columns: int, title: str) -> str:
    """SVG documents as one: so many in a row, from the left and from the top."""
    sizes = [_size(document) for document in documents]
    rows = [range(first, min(first + columns, len(documents))) for first in range(0, len(documents), columns)]
    wide, high, parts = max(sum(sizes[n][0] for n in row) for row in rows), 0.0, []
    for row in rows:
        x = 0.0
        for n in row:
            parts.append(documents[n].replace("<svg ", f'<svg x="{x:.0f}" y="{high:.0f}" ', 1))
            x += sizes[n][0]
        high += max(sizes[n][1] for n in row)
    ground = documents[0].split("<rect ", 2)[2].split("/>", 1)[0]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" '
        f'height="{high:.0f}" role="img" aria-label={quoteattr(title)}><rect {ground}/>{"".join(parts)}</svg>\n'
    )


def _size(document: str) -> tuple[float, float]:
    """Width and height of a document of ours, in its units."""
    width, high = document.split('viewBox="0 0 ', 1)[1].split('"', 1)[0].split()
    return float(width), float(high)


@functools.cache
def _letters_are_drawn() -> bool:
    """Whether resvg finds a font: without one it leaves text out and says nothing."""
    blank, written = (
        resvg_py.svg_to_bytes(
            svg_string=f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20" width="40" height="20">'
            f'<text x="2" y="15" font-family="{_MONO}">{text}</text></svg>'
        )
        for text in ("", "MM")
    )
    return bytes(blank) != bytes(written)


def wide(text: str) -> int:
    """How many narrow letters wide a text is: letters of East Asia take two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def _names(panel: Panel) -> float:
    """How wide the names of rows are: layers as a rule, of a head's map tokens."""
    return max(_NAMES, *(wide(row.name) * 6.8 + 16 for row in panel.rows if row.cells)) if panel.rows else _NAMES


class _Drawing:
    """The parts of one document, from top to bottom."""

    def __init__(self, picture: Picture, theme: Theme) -> None:
        self._picture, self._theme = picture, theme
        self._look = {**_LOOK[theme], "orange": _ORANGE[theme], "blue": _BLUE[theme]}
        self._parts: list[str] = []
        self._wide = 480.0

    def document(self) -> str:
        picture = self._picture
        legend = 2 * _EDGE + 4 * len(picture.steps) + 7 * wide(f"{picture.low}  {picture.high}  {picture.meaning}")
        self._wide = max(self._wide, self._across(), legend if picture.panels else 0.0)
        self._text(picture.title, _EDGE, 26, size=14, bold=True)
        top = 64 + self._lines(picture.origin, 44)
        x, bottom = _EDGE, top - 20
        for panel in picture.panels:
            right, low = self._panel(panel, x, top)
            x, bottom = right + _GAP, max(bottom, low)
        if picture.panels:
            bottom = self._legend(bottom + 20)
        bottom = self._charts(self._thumbs(bottom))
        if picture.foot:
            bottom += 18 + self._lines(picture.foot, bottom + 18)
        high = bottom + 16
        grid = "".join(self._parts)
        label = quoteattr(f"{picture.title}: {picture.meaning}")
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._wide:.0f} {high:.0f}" '
            f'width="{self._wide:.0f}" height="{high:.0f}" role="img" aria-label={label}>'
            f'<defs><pattern id="edif-unknown" width="5" height="5" patternUnits="userSpaceOnUse" '
            f'patternTransform="rotate(45)"><rect width="1" height="5" fill="{self._look["muted"]}"/></pattern></defs>'
            f'<rect width="100%" height="100%" fill="{self._look["ground"]}"/>{grid}</svg>\n'
        )

    def _across(self) -> float:
        """How wide all panels are together."""
        each = [_names(panel) + sum(self._widths(panel)) + self._leaning(panel) for panel in self._picture.panels]
        squares = min(len(self._picture.thumbs), _SQUARES) * (_SQUARE + _AROUND)
        charts = min(len(self._picture.charts), _CHARTS) * WIDE
        return max(sum(each) + _GAP * (len(each) - 1), squares, charts) + 2 * _EDGE

    def _thumbs(self, top: float) -> float:
        """Small squares in rows, each below its name; gives the lower edge."""
        for number, thumb in enumerate(self._picture.thumbs):
            row, column = divmod(number, _SQUARES)
            x, y = _EDGE + column * (_SQUARE + _AROUND), top + 34 + row * (_SQUARE + _AROUND + 16)
            self._text(thumb.name, x, y - 4, size=11, colour="muted")
            side = _SQUARE / max(len(thumb.steps), 1)
            for down, steps in enumerate(thumb.steps):
                for across, step in enumerate(steps):
                    if step != NOTHING:
                        place = (x + across * side, y + down * side, side, side)
                        self._rect(*place, colours.ground(step, self._theme), ' shape-rendering="crispEdges"')
        rows = -(-len(self._picture.thumbs) // _SQUARES)
        return top + (18 + rows * (_SQUARE + _AROUND + 16) if rows else 0)

    def _charts(self, top: float) -> float:
        """Charts in rows; gives the lower edge."""
        charts = self._picture.charts
        each = high(charts)
        for number, chart in enumerate(charts):
            row, column = divmod(number, _CHARTS)
            plot = Plot(chart, _EDGE + column * WIDE, top + 30 + row * each, self._look, self._text)
            self._parts += plot.parts()
        return top + 24 + -(-len(charts) // _CHARTS) * each if charts else top

    def _leaning(self, panel: Panel) -> float:
        """How far heads at a slant stand out to the right."""
        letters = max(wide(name) for name in panel.columns)
        return max(0.0, letters * _LETTER * 0.72 - 12) if self._picture.tilted else 0.0

    def _lines(self, text: str, y: float) -> float:
        """Text of 11 px over as many lines as it takes; gives the height of those beyond the first."""
        most, rest, down = max(20, int((self._wide - 2 * _EDGE) / 6.6)), text, 0.0
        while rest:
            cut = len(rest) if wide(rest) <= most else max(rest.rfind(" ", 0, most), 0) or most
            self._text(rest[:cut], _EDGE, y + down, size=11, colour="muted")
            rest = rest[cut:].lstrip()
            down += 15 if rest else 0
        return down

    def _panel(self, panel: Panel, x: float, top: float) -> tuple[float, float]:
        """One grid; gives its right and lower edge."""
        tilted, names = self._picture.tilted, _names(panel)
        letters = max(wide(name) for name in panel.columns)
        heads = top + (math.ceil(letters * _LETTER * 0.72) + 14 if tilted else 16) + (16 if panel.name else 0)
        widths = self._widths(panel)
        if panel.name:
            self._text(panel.name, x + names, top + 8, size=12, bold=True)
        self._heads(panel, x + names, heads - 4, widths)
        y = heads
        quiet = tilted and len(panel.rows) > _MANY
        for number, row in enumerate(panel.rows):
            if not row.cells:
                self._rect(x + names, y, sum(widths), 13, self._look["quiet"])
                self._text(f"··· {row.name}", x + names + sum(widths) / 2, y + 10, size=10, anchor="middle")
                y += 14
                continue
            high = _STEPPED if tilted else 20.0
            if not quiet or number == 0 or not row.name.isdigit() or int(row.name) % 5 == 0:
                self._text(row.name, x + names - 8, y + high / 2 + 4, size=11, colour="muted", anchor="end")
            at = x + names
            for cell, width in zip(row.cells, widths, strict=True):
                self._cell(cell, at, y, width, high)
                at += width
            y += high
        return x + names + sum(widths) + self._leaning(panel), y

    def _widths(self, panel: Panel) -> list[float]:
        if self._picture.tilted:
            return [26.0] * len(panel.columns)
        texts = [[row.cells[at].text for row in panel.rows if row.cells] for at in range(len(panel.columns))]
        return [
            max(wide(text) for text in (name, *column)) * _LETTER + 12
            for name, column in zip(panel.columns, texts, strict=True)
        ]

    def _heads(self, panel: Panel, x: float, y: float, widths: list[float]) -> None:
        self._text(panel.corner, x - 8, y, size=11, colour="muted", anchor="end")
        for at, (name, width) in enumerate(zip(panel.columns, widths, strict=True)):
            colour, bold = ("orange", True) if at in panel.marked else ("muted", False)
            turned = f"rotate(-45 {x + width / 2:.1f} {y:.1f})" if self._picture.tilted else ""
            anchor = "start" if turned else "middle"
            self._text(name, x + width / 2, y, mono=True, colour=colour, bold=bold, anchor=anchor, turned=turned)
            x += width

    def _cell(self, cell: Cell, x: float, y: float, width: float, high: float) -> None:
        if cell.step == NOTHING:
            return
        known = cell.step != ""
        fill = colours.ground(cell.step, self._theme) if known else "url(#edif-unknown)"
        edge = f' stroke="{self._look["orange"]}" stroke-width="2"' if cell.pinned else ""
        inset = 1.5 if cell.pinned else 0.5
        title = f"<title>{escape(cell.figure if known else 'not known')}</title>"
        self._rect(x + inset, y + inset, width - 2 * inset, high - 2 * inset, fill, edge, title)
        if cell.text:
            ink = colours.ink(cell.step, self._theme) if known else self._look["text"]
            self._text(cell.text, x + width / 2, y + high / 2 + 4, mono=True, fill=ink, bold=cell.bold, anchor="middle")

    def _legend(self, y: float) -> float:
        picture, x = self._picture, _EDGE
        self._text(picture.low, x, y, size=11, colour="muted")
        x += len(picture.low) * 7 + 8
        for step in picture.steps:
            self._rect(x, y - 8, 4.2, 8, colours.ground(step, self._theme))
            x += 4
        self._text(f"{picture.high}  {picture.meaning}", x + 8, y, size=11, colour="muted")
        return y

    def _rect(self, x: float, y: float, width: float, high: float, fill: str, more: str = "", inner: str = "") -> None:
        place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{high:.1f}"'
        self._parts.append(f'<rect {place} fill="{fill}"{more}>{inner}</rect>')

    def _text(
        self,
        text: str,
        x: float,
        y: float,
        *,
        size: int = 12,
        mono: bool = False,
        bold: bool = False,
        colour: str = "text",
        fill: str = "",
        anchor: str = "start",
        turned: str = "",
    ) -> None:
        """A text that is kept left to right as a whole, as tokens stand in their order."""
        more = (' font-weight="700"' if bold else "") + (f' transform="{turned}"' if turned else "")
        more += f' text-anchor="{anchor}"' if anchor != "start" else ""
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-family="{_MONO if mono else _SANS}" font-size="{size}" '
            f'fill="{fill or self._look[colour]}"{more}>{escape(text)}</text>'
        )
