"""A result as a picture without a browser: what stands in which cell, in the order and the steps of the views.

:func:`of` reads the JSON that a notebook keeps, so picture and view show the same numbers; :mod:`edif.picture_svg` and
:mod:`edif.picture_latex` write it down.  Called by :class:`edif.result.Result`; runs in the user's process.
"""

from __future__ import annotations

import inspect
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edif import colours

_SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍"}
#: Layers of a lens that are shown at first, as in extensions/src/core/lens-layers.ts.
_ALL, _LAST, _EARLIER = 16, 6, 7
_NAN = float("nan")


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


@dataclass(frozen=True)
class Picture:
    """What is drawn: panels side by side on one scale, with their legend."""

    title: str
    origin: str
    panels: tuple[Panel, ...]
    tilted: bool  #: narrow cells without text, heads at a slant
    steps: tuple[str, ...]
    low: str
    high: str
    meaning: str
    foot: str


def of(drawn: dict[str, Any], **chosen: Any) -> Picture:
    """The picture of a result's JSON.

    Args:
        chosen: what is shown where a result holds several: ``prompt`` and ``all_layers`` of a lens; ``pair``,
            ``direction``, ``metric``, ``site`` and ``position`` of a patching map; ``fact`` of a causal trace.

    Raises:
        ValueError: there is no such choice.
        NotImplementedError: there is no picture of this kind.
    """
    kinds: dict[str, Callable[..., Picture]] = {
        "logit_lens": lens,
        "activation_patching": patching,
        "causal_trace": trace,
    }
    if drawn["kind"] not in kinds:
        raise NotImplementedError(f"There is no picture of {drawn['kind']} yet: all of it is in .data.")
    make = kinds[drawn["kind"]]
    known = list(inspect.signature(make).parameters)[1:]
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"There is no {unknown[0]!r} to choose in this picture: there is {', '.join(known)}.")
    return make(drawn, **chosen)


def lens(drawn: dict[str, Any], *, prompt: int = 0, all_layers: bool = False) -> Picture:
    """The most probable token of each cell, coloured by its probability."""
    held, layers, top = _entry(drawn["prompts"], prompt, "prompt"), drawn["layers"], drawn["top"]
    words, ids, count = drawn["vocabulary"]["texts"], drawn["vocabulary"]["ids"], len(held["tokens"])
    pins = set(drawn["view"].get("pins", ()))

    def cell(layer: int, place: int) -> Cell:
        at = (layer * count + place) * top
        token, value = held["top"][at], _number(held["probability"][at])
        final = drawn["final"] and layer == len(layers) - 1
        pinned = token is not None and ids[token] in pins
        text = "–" if token is None else visible(words[token])
        return Cell(text, colours.sequential(value, 0, 1), probability(value), final, pinned)

    rows, hidden = [], 0
    shown = set(range(len(layers))) if all_layers else _first_shown(len(layers))
    for layer in reversed(range(len(layers))):
        if layer not in shown:
            hidden += 1
            continue
        if hidden:
            rows.append(Row(f"{hidden} {'layer' if hidden == 1 else 'layers'} hidden"))
        rows.append(Row(str(layers[layer]), tuple(cell(layer, place) for place in range(count))))
        hidden = 0
    columns = tuple(visible(words[token]) for token in held["tokens"])
    origin = [_model(drawn), _bos(held["bos"]), f"“{visible(held['prompt'], blank=' ')}”"]
    panel = Panel("", columns, frozenset(), tuple(rows))
    meaning = "probability of the top token" + (", pinned ones in orange" if pins else "")
    return Picture(
        drawn["title"], _joined(origin), (panel,), False, colours.SEQUENTIAL, "0", "1", meaning, drawn["foot"]
    )


def patching(
    drawn: dict[str, Any],
    *,
    pair: int = 0,
    direction: str | None = None,
    metric: str | None = None,
    site: str | None = None,
    position: int = -1,
) -> Picture:
    """Effects of patching, 0 as in the corrupt run and 1 as in the clean one; of heads, those at one position."""
    held = _entry(drawn["pairs"], pair, "pair")
    way, measure = _named(drawn["directions"], direction), _named(drawn["metrics"], metric)
    place = drawn["sites"][_named([one["name"] for one in drawn["sites"]], site)]
    run, parts, layers = held["runs"][way], place["parts"], drawn["layers"]
    words, count = drawn["vocabulary"]["texts"], len(run["tokens"])
    headed = place["part"] is not None
    clean, corrupt = run["clean"][measure], run["corrupt"][measure]
    chosen = _entry(range(count), position, "position")

    def effect(layer: int, column: int) -> float:
        at, part = (chosen, column) if headed else (column, 0)
        value = run["values"][place["name"]][((measure * len(layers) + layer) * count + at) * parts + part]
        return _NAN if value is None or not run["defined"][measure] else (value - corrupt) / (clean - corrupt)

    heads = ["all positions"] if drawn["together"] else [visible(words[token]) for token in run["tokens"]]
    columns = tuple(f"{place['part']} {n}" for n in range(parts)) if headed else tuple(heads)
    values = [[effect(layer, column) for column in range(len(columns))] for layer in range(len(layers))]
    most = max((abs(value) for row in values for value in row if value == value), default=0.0) or 1.0  # noqa: PLR0124
    differs = frozenset() if headed or drawn["together"] else frozenset(run["differs"])
    panel = _map("", columns, differs, layers, values, lambda value: colours.diverging(value, most))
    at = f" at {heads[chosen]}" if headed else ""
    meaning = f"effect on {drawn['metrics'][measure]}, {place['name']}{at}, {drawn['directions'][way]}"
    texts = [f"{name} “{visible(held[name], blank=' ')}”" for name in ("clean", "corrupt")]
    baselines = f"{drawn['metrics'][measure]}: clean {signed(clean)}, corrupt {signed(corrupt)}".replace("_", " ")
    return Picture(
        drawn["title"],
        _joined([_model(drawn), _bos(held["bos"]), *texts]),
        (panel,),
        True,
        colours.DIVERGING,
        signed(-most),
        signed(most),
        meaning.replace("_", " "),
        _joined([baselines, drawn["foot"]]),
    )


def trace(drawn: dict[str, Any], *, fact: int = 0) -> Picture:
    """Indirect effects of all kinds side by side on one scale; the subject's tokens are orange."""
    held, layers, kinds = _entry(drawn["facts"], fact, "fact"), drawn["layers"], drawn["kinds"]
    words, count = drawn["vocabulary"]["texts"], len(held["tokens"])
    numbers = [_number(value) for value in held["effect"]]
    low, high = min(0.0, *_known(numbers)), max(0.0, *_known(numbers))
    columns = tuple(visible(words[token]) for token in held["tokens"])
    panels = []
    for kind, name in enumerate(kinds):
        start = kind * len(layers) * count
        values = [numbers[start + layer * count :][:count] for layer in range(len(layers))]
        subject = frozenset(range(*held["subject"]))
        made = _map(name, columns, subject, layers, values, lambda value: colours.sequential(value, low, high))
        panels.append(made)
    replaced = "" if held["corrupt"] is None else f"corrupt “{visible(held['corrupt'], blank=' ')}”"
    asked = f"“{visible(held['prompt'], blank=' ')}” → {visible(words[held['answer']])}"
    known = f"clean {probability(held['clean'])}, subject corrupted {probability(held['corrupted'])}"
    return Picture(
        drawn["title"],
        _joined([_model(drawn), _bos(held["bos"]), asked, replaced]),
        tuple(panels),
        True,
        colours.SEQUENTIAL,
        signed(low),
        signed(high),
        f"indirect effect on the answer’s probability; windows of {drawn['window']} layers for mlp and attention",
        _joined([known, drawn["foot"]]),
    )


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


def _map(
    name: str,
    columns: tuple[str, ...],
    marked: frozenset[int],
    layers: list[int],
    values: list[list[float]],
    step: Callable[[float], str],
) -> Panel:
    rows = [
        Row(str(layer), tuple(Cell("", step(value), signed(value)) for value in row))
        for layer, row in zip(layers, values, strict=True)
    ]
    return Panel(name.replace("_", " "), columns, marked, tuple(reversed(rows)))


def _first_shown(count: int) -> set[int]:
    """All layers of a small model; of a large one the last six, and fewer and fewer towards the first."""
    if count <= _ALL:
        return set(range(count))
    below = count - _LAST - 1
    earlier = (int((below - 1) * (1 - (n / (_EARLIER - 1)) ** 1.3) + 0.5) for n in range(_EARLIER))
    return {*range(count - _LAST, count), *earlier}


def _entry(entries: Sequence[Any], at: int, name: str) -> Any:
    if not -len(entries) <= at < len(entries):
        raise ValueError(f"There is no {name} {at}: there are {len(entries)}, counted from 0.")
    return entries[at]


def _named(names: Sequence[str], name: str | None) -> int:
    if name is not None and name not in names:
        raise ValueError(f"There is no {name!r} here: choose from {', '.join(names)}.")
    return 0 if name is None else names.index(name)


def _seen(one: str) -> str:
    unseen = unicodedata.category(one) in ("Cc", "Cf", "Co", "Cs", "Cn", "Zs", "Zl", "Zp")
    return f"⟨U+{ord(one):04X}⟩" if unseen else one


def _known(values: list[float]) -> list[float]:
    return [value for value in values if value == value]  # noqa: PLR0124


def _number(value: float | None) -> float:
    return _NAN if value is None else value


def _model(drawn: dict[str, Any]) -> str:
    return f"{drawn['provenance']['model']} · {drawn['provenance']['dtype']}"


def _bos(begins: bool | None) -> str:
    return "" if begins is None else "BOS" if begins else "no BOS"


def _joined(parts: Sequence[str]) -> str:
    return " · ".join(part for part in parts if part)
