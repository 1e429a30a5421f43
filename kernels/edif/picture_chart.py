"""Draws the lines of a picture with their intervals, as parts of an SVG document.

Called by :mod:`edif.picture_svg`; runs in the user's process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from edif.picture_parts import Chart, Line, finite

#: Width of a chart's place in the document.
WIDE = 330.0
_LEFT, _RIGHT, _TOP, _PLOT = 58.0, 14.0, 24.0, 150.0
_KEY = 15.0
#: Letters of a name that fit above a chart.
_LETTERS = 42

#: ``text(words, x, y, size=…, colour=…, anchor=…, bold=…)``, as in the document around.
Write = Callable[..., None]


def high(charts: Sequence[Chart]) -> float:
    """Height of a place that holds any of these: name, plot, axis, and the names of lines."""
    return _TOP + _PLOT + 46 + _KEY * max((len(chart.lines) for chart in charts), default=0) + 8


class Plot:
    """One chart at its place.

    Args:
        look: colours of ``text``, ``muted``, ``line``, ``blue``, ``orange``.
    """

    def __init__(self, chart: Chart, x: float, y: float, look: Mapping[str, str], text: Write) -> None:
        self._chart, self._x, self._y, self._look, self._text = chart, x, y, look, text
        lines = chart.lines
        known = finite(value for line in lines for value in (*line.values, *line.low, *line.high))
        self.ticks = ticks(min([0.0, *known]), max([0.0, *known]))
        self._low, self._high = min(self.ticks[0], *known, 0.0), max(self.ticks[-1], *known, 0.0)

    def parts(self) -> list[str]:
        """Elements; words are written by the way."""
        chart, left, right = self._chart, self._x + _LEFT, self._x + WIDE - _RIGHT
        name = chart.name if len(chart.name) <= _LETTERS else chart.name[: _LETTERS - 1] + "…"
        self._text(name, self._x + 4, self._y + 10, size=12, bold=True)
        made = []
        for tick in self.ticks:
            y = self._height(tick)
            colour = self._look["muted" if tick == 0 else "line"]
            made.append(f'<path d="M{left:.1f} {y:.1f}H{right:.1f}" stroke="{colour}" stroke-width="1"/>')
            self._text(_figure(tick, self.ticks), left - 6, y + 4, size=10, colour="muted", anchor="end")
        for value, name in _places(chart.x):
            self._text(name, self._across(value), self._y + _TOP + _PLOT + 14, size=10, colour="muted", anchor="middle")
        self._text(
            chart.along, (left + right) / 2, self._y + _TOP + _PLOT + 29, size=10, colour="muted", anchor="middle"
        )
        made += [band for line in chart.lines for band in self._bands(line)]
        made += [path for line in chart.lines for path in self._path(line)]
        return made + self._keys()

    def _height(self, value: float) -> float:
        return self._y + _TOP + _PLOT * (1 - (value - self._low) / (self._high - self._low))

    def _across(self, value: float) -> float:
        first, last = self._chart.x[0], self._chart.x[-1]
        wide = WIDE - _LEFT - _RIGHT - 12
        return self._x + _LEFT + 6 + (wide * (value - first) / (last - first) if last > first else wide / 2)

    def _point(self, place: int, value: float) -> str:
        return f"{self._across(self._chart.x[place]):.1f} {self._height(value):.1f}"

    def _bands(self, line: Line) -> list[str]:
        made = []
        around = list(zip(line.low, line.high, strict=True))
        for piece in _pieces([low == low and high == high for low, high in around]):  # noqa: PLR0124
            there = [self._point(n, around[n][1]) for n in piece]
            back = [self._point(n, around[n][0]) for n in reversed(piece)]
            made.append(_ground(f"M{'L'.join([*there, *back])}", self._look[line.look]))
        return made

    def _path(self, line: Line) -> list[str]:
        colour, made = self._look[line.look], []
        for piece in _pieces([value == value for value in line.values]):  # noqa: PLR0124
            if len(piece) == 1:
                x, y = self._point(piece[0], line.values[piece[0]]).split(" ")
                made.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>')
                continue
            way = "L".join(self._point(n, line.values[n]) for n in piece)
            made.append(_stroke(f"M{way}", colour, dashed=line.dashed))
        return made

    def _keys(self) -> list[str]:
        """A piece of each line and its name, below the axis."""
        made, y, x = [], self._y + _TOP + _PLOT + 46, self._x + _LEFT
        for line in self._chart.lines:
            colour = self._look[line.look]
            if line.low:
                made.append(_ground(f"M{x:.1f} {y - 5:.1f}h20v10h-20", colour))
            if finite(line.values):
                made.append(_stroke(f"M{x:.1f} {y:.1f}h20", colour, dashed=line.dashed))
            self._text(line.name, x + 26, y + 4, size=10, colour="muted")
            y += _KEY
        return made


def ticks(low: float, high: float) -> list[float]:
    """Two to six round numbers from ``low`` to ``high``."""
    span = high - low
    if not span:
        return [low, low + 1.0]
    power = 10.0 ** math.floor(math.log10(span))
    step = next(power * part for part in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0) if span / (power * part) <= 5)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [0.0 if n == 0 else n * step for n in range(first, max(last, first + 1) + 1)]


def _figure(tick: float, all_: Sequence[float]) -> str:
    """A tick with as many decimals as its neighbours need."""
    step = abs(all_[1] - all_[0])
    digits = next((n for n in range(6) if all(abs(round(one, n) - one) < step / 1000 for one in all_)), None)
    return (f"{tick:.1e}" if digits is None else f"{tick:.{digits}f}").replace("-", "−")


def _places(x: Sequence[float]) -> list[tuple[float, str]]:
    """Values along x that are named: all of few, else round ones."""
    named = list(x) if len(x) <= 7 else [tick for tick in ticks(x[0], x[-1]) if x[0] <= tick <= x[-1]]
    return [(value, f"{value:g}".replace("-", "−")) for value in named]


def _pieces(known: Sequence[bool]) -> list[list[int]]:
    """Places of neighbours that are known."""
    pieces: list[list[int]] = []
    for place, is_known in enumerate(known):
        if is_known and pieces and pieces[-1][-1] == place - 1:
            pieces[-1].append(place)
        elif is_known:
            pieces.append([place])
    return pieces


def _ground(way: str, colour: str) -> str:
    return f'<path d="{way}Z" fill="{colour}" fill-opacity="0.18"/>'


def _stroke(way: str, colour: str, *, dashed: bool) -> str:
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<path d="{way}" fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"{dashes}/>'
