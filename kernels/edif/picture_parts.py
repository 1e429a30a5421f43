"""What pictures of results are made of: cells, grids, lines, and figures in words.

Used by :mod:`edif.picture` and the modules of single kinds, which fill them, and by those that write them down
(:mod:`edif.picture_svg`, :mod:`edif.picture_latex`); runs in the user's process.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

NAN = float("nan")
#: The step of a place where nothing can be, such as what a later token would be looked at: it is left blank.
NOTHING = "none"
#: Looks of lines, one after the other.
Look = Literal["blue", "orange", "muted"]
LOOKS: tuple[Look, ...] = ("blue", "orange", "muted")
#: The least and the largest figure of a scale.
Ends = tuple[float, float]
_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}


@dataclass(frozen=True)
class Cell:
    """One cell: what stands in it, its step of a scale (empty: not known), and its figure in words."""

    text: str
    step: str
    figure: str
    bold: bool = False
    pinned: bool = False


@dataclass(frozen=True)
class Row:
    """A layer with its cells; without cells a band that stands for layers that are not shown."""

    name: str
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One grid: layers downwards from the last one × columns; ``marked`` columns are orange."""

    name: str
    columns: tuple[str, ...]
    marked: frozenset[int]
    rows: tuple[Row, ...]
    corner: str = "layer"  #: what the names of rows are


@dataclass(frozen=True)
class Thumb:
    """One small square of steps, (rows, columns), without names; empty where nothing is."""

    name: str
    steps: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Line:
    """A line of a chart, and what is around it: an interval, a spread."""

    name: str
    look: Look
    values: tuple[float, ...]  #: one for each place along x; not-a-number where it is not known
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over one axis."""

    name: str
    along: str  #: what x is
    x: tuple[float, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Picture:
    """What is drawn: panels side by side on one scale, with their legend; below them small squares, and charts."""

    title: str
    origin: str
    panels: tuple[Panel, ...]
    tilted: bool  #: narrow cells without text, heads at a slant
    steps: tuple[str, ...]
    low: str
    high: str
    meaning: str
    foot: str
    thumbs: tuple[Thumb, ...] = ()
    charts: tuple[Chart, ...] = ()
    ends: Ends | None = None  #: what low and high are, where the scale is that of its own figures


def visible(text: str, blank: str = "␣") -> str:
    """Text with every blank and unseen character drawn, as the views do; ``blank`` stands for a plain space."""
    if not text:
        return "∅"
    return "".join(blank if one == " " else _SIGNS.get(one) or _seen(one) for one in text)


def probability(value: float) -> str:
    """Three decimals, or a power of ten where these would show nothing."""
    if value != value:  # noqa: PLR0124
        return "–"
    return f"{value:.1e}" if 0 < value < 0.0005 else f"{value:.3f}"


def signed(value: float | None) -> str:
    """With its sign and three decimals."""
    if value is None or value != value:  # noqa: PLR0124
        return "–"
    return f"{value:+.3f}".replace("-", "−") if value else "0"


def map_of(
    name: str,
    columns: tuple[str, ...],
    marked: frozenset[int],
    layers: Sequence[int | str],
    values: list[list[float]],
    step: Callable[[float], str],
    figure: Callable[[float], str] = signed,
) -> Panel:
    """A map of cells without text: the first layer's values first."""
    rows = [
        Row(str(layer), tuple(Cell("", step(value), figure(value)) for value in row))
        for layer, row in zip(layers, values, strict=True)
    ]
    return Panel(name.replace("_", " "), columns, marked, tuple(reversed(rows)))


def entry(entries: Sequence[Any], at: int, name: str) -> Any:
    """One of several.

    Raises:
        ValueError: there are not so many.
    """
    if not -len(entries) <= at < len(entries):
        raise ValueError(f"There is no {name} {at}: there are {len(entries)}, counted from 0.")
    return entries[at]


def symmetric(values: Iterable[float], ends: Ends | None) -> float:
    """How far a scale about zero goes to both sides: to its largest figure, or to the given ends."""
    return max(map(abs, finite(values) if ends is None else ends), default=0.0) or 1.0


def place_of(names: Sequence[str], name: str | None) -> int:
    """Place of a name, by default the first one's.

    Raises:
        ValueError: there is no such name.
    """
    if name is not None and name not in names:
        raise ValueError(f"There is no {name!r} here: choose from {', '.join(names)}.")
    return 0 if name is None else names.index(name)


def _seen(one: str) -> str:
    unseen = unicodedata.category(one) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zs", "Zl", "Zp")
    return f"⟨U+{ord(one):04X}⟩" if unseen else one


def finite(values: Iterable[float]) -> list[float]:
    """Those that are numbers."""
    return [value for value in values if value == value]  # noqa: PLR0124


def number(value: float | None) -> float:
    """A figure of the JSON, where nothing stands for not-a-number."""
    return NAN if value is None else value


def model_words(drawn: dict[str, Any]) -> str:
    """Which model, and in which numbers it computed."""
    return f"{drawn['provenance']['model']} · {drawn['provenance']['dtype']}"


def bos_words(begins: bool | None) -> str:
    """Whether a prompt begins with BOS, where that is known."""
    return "" if begins is None else "BOS" if begins else "no BOS"


def joined(parts: Sequence[str]) -> str:
    """Parts of a line, without empty ones."""
    return " · ".join(part for part in parts if part)
