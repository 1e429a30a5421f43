"""A result as a picture without a browser: what stands in which cell, in the order and the steps of the views.

:func:`of` reads the JSON that a notebook keeps, so picture and view show the same numbers; :mod:`edif.picture_svg` and
:mod:`edif.picture_latex` write it down.  Called by :class:`edif.result.Result`; runs in the user's process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from edif import colours
from edif.picture_attention import attention
from edif.picture_effects import comparison, probe, steering
from edif.picture_parts import (
    LOOKS,
    NAN,
    Cell,
    Chart,
    Ends,
    Line,
    Panel,
    Picture,
    Row,
    bos_words,
    entry,
    finite,
    joined,
    map_of,
    model_words,
    number,
    place_of,
    probability,
    signed,
    symmetric,
    visible,
)

#: Layers of a lens that are shown at first, as in extensions/src/core/lens-layers.ts.
_ALL, _LAST, _EARLIER = 16, 6, 7


def of(drawn: dict[str, Any], **chosen: Any) -> Picture:
    """The picture of a result's JSON.

    Args:
        chosen: what is shown where a result holds several: ``prompt`` and ``all_layers`` of a lens; ``pair``,
            ``direction``, ``metric``, ``site`` and ``position`` of a patching map, or its ``average`` over pairs;
            ``fact`` of a causal trace, or its ``average`` over facts; ``prompt``, ``layer`` and ``head`` of attention;
            ``prompt``, ``metric`` and ``layer`` of steering; ``position``, ``towards`` and ``layer`` of a probe;
            ``prompt`` and ``figure`` of compared models.  ``ends``, least and largest figure of the scale, where it is
            that of a result's own figures: for pictures that are to be compared.

    Raises:
        ValueError: there is no such choice.
        NotImplementedError: there is no picture of this kind.
    """
    known = choices(drawn)
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"There is no {unknown[0]!r} to choose in this picture: there is {', '.join(known)}.")
    return _maker(drawn)(drawn, **chosen)


def choices(drawn: dict[str, Any]) -> list[str]:
    """What can be chosen of a result in its picture.

    Raises:
        NotImplementedError: there is no picture of this kind.
    """
    return list(inspect.signature(_maker(drawn)).parameters)[1:]


def _maker(drawn: dict[str, Any]) -> Callable[..., Picture]:
    kinds: dict[str, Callable[..., Picture]] = {
        "next_tokens": next_tokens,
        "logit_lens": lens,
        "activation_patching": patching,
        "causal_trace": trace,
        "attention": attention,
        "steering": steering,
        "probe": probe,
        "comparison": comparison,
    }
    if drawn["kind"] not in kinds:
        raise NotImplementedError(f"There is no picture of {drawn['kind']} yet: all of it is in .data.")
    return kinds[drawn["kind"]]


def next_tokens(drawn: dict[str, Any]) -> Picture:
    """The most probable next tokens, coloured by their probability."""
    known = drawn["provenance"]
    prompt = [f"“{visible(known['prompt'], blank=' ')}”"] if "prompt" in known else []
    rows = [
        Row(
            visible(one["text"]),
            (Cell(text := probability(p := one["probability"]), colours.sequential(p, 0, 1), text),),
        )
        for one in drawn["tokens"]
    ]
    panel = Panel("", ("probability",), frozenset(), tuple(rows), corner="token")
    origin = joined([model_words(drawn), bos_words(known.get("bos")), *prompt])
    return Picture(
        drawn["title"], origin, (panel,), False, colours.SEQUENTIAL, "0", "1", "probability", drawn["foot"]
    )  # fmt: skip


def lens(drawn: dict[str, Any], *, prompt: int = 0, all_layers: bool = False) -> Picture:
    """The most probable token of each cell, coloured by its probability."""
    held, layers, top = entry(drawn["prompts"], prompt, "prompt"), drawn["layers"], drawn["top"]
    words, ids, count = drawn["vocabulary"]["texts"], drawn["vocabulary"]["ids"], len(held["tokens"])
    pins = set(drawn["view"].get("pins", ()))

    def cell(layer: int, place: int) -> Cell:
        at = (layer * count + place) * top
        token, value = held["top"][at], number(held["probability"][at])
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
    origin = [model_words(drawn), bos_words(held["bos"]), f"“{visible(held['prompt'], blank=' ')}”"]
    panel = Panel("", columns, frozenset(), tuple(rows))
    meaning = "probability of the top token" + (", pinned ones in orange" if pins else "")
    return Picture(
        drawn["title"], joined(origin), (panel,), False, colours.SEQUENTIAL, "0", "1", meaning, drawn["foot"]
    )


def patching(
    drawn: dict[str, Any],
    *,
    pair: int = 0,
    direction: str | None = None,
    metric: str | None = None,
    site: str | None = None,
    position: int = -1,
    average: bool = False,
    ends: Ends | None = None,
) -> Picture:
    """Effects of patching, 0 as in the corrupt run and 1 as in the clean one; of heads, those at one position.

    With ``average`` the mean over pairs, position by position.
    """
    held = entry(drawn["pairs"], pair, "pair")
    way, measure = place_of(drawn["directions"], direction), place_of(drawn["metrics"], metric)
    place = drawn["sites"][place_of([one["name"] for one in drawn["sites"]], site)]
    run, parts, layers = held["runs"][way], place["parts"], drawn["layers"]
    words, headed = drawn["vocabulary"]["texts"], place["part"] is not None
    heads = ["all positions"] if drawn["together"] else [visible(words[token]) for token in run["tokens"]]
    marked = frozenset() if headed or drawn["together"] or average else frozenset(run["differs"])
    if average:
        effects, heads = _mean_effects(drawn, way, place["name"])
    else:
        effects = _effects(run, place["name"], measure)
    shaped = _Shaped(effects, len(layers), len(heads), parts, measure)
    chosen = entry(range(len(heads)), position, "position")
    columns = tuple(f"{place['part']} {n}" for n in range(parts)) if headed else tuple(heads)
    values = [
        [shaped.at(layer, chosen, part) if headed else shaped.at(layer, part, 0) for part in range(len(columns))]
        for layer in range(len(layers))
    ]
    most = symmetric((value for row in values for value in row), ends)
    panel = map_of("", columns, marked, layers, values, lambda value: colours.diverging(value, most))
    name = drawn["metrics"][measure]
    meaning = f"effect on {name}, {place['name']}{f' at {heads[chosen]}' if headed else ''}, {drawn['directions'][way]}"
    clean, corrupt = run["clean"][measure], run["corrupt"][measure]
    baselines = f"{name}: clean {signed(clean)}, corrupt {signed(corrupt)}".replace("_", " ")
    texts = [f"{side} “{visible(held[side], blank=' ')}”" for side in ("clean", "corrupt")]
    about = ["mean over pairs"] if average else [bos_words(held["bos"]), *texts]
    scale = (colours.DIVERGING, signed(-most), signed(most), meaning.replace("_", " "))
    foot = joined([drawn.get("approximate", ""), "" if average else baselines, drawn["foot"]])
    return Picture(
        drawn["title"], joined([model_words(drawn), *about]), (panel,), True, *scale, foot, ends=(-most, most)
    )


class _Shaped:
    """Effects, flat in (metric, layer, position, part)."""

    def __init__(self, values: list[float], layers: int, positions: int, parts: int, metric: int) -> None:
        self._values, self._layers, self._positions, self._parts = values, layers, positions, parts
        self._metric = metric

    def at(self, layer: int, position: int, part: int) -> float:
        """One effect."""
        row = (self._metric * self._layers + layer) * self._positions + position
        return self._values[row * self._parts + part]


def _effects(run: dict[str, Any], site: str, metric: int) -> list[float]:
    """Normalised by one metric's baselines; not-a-number where these hardly differ."""
    clean, corrupt = run["clean"][metric], run["corrupt"][metric]
    if not run["defined"][metric]:
        return [NAN] * len(run["values"][site])
    return [NAN if value is None else (value - corrupt) / (clean - corrupt) for value in run["values"][site]]


def _mean_effects(drawn: dict[str, Any], way: int, site: str) -> tuple[list[float], list[str]]:
    """Mean effects over pairs, and names of positions, whose tokens differ from pair to pair."""
    if drawn["mean"] is None:
        raise ValueError("There is no mean in this drawing (one pair, or too many cells): .mean() computes it.")
    held = drawn["mean"][way]
    names = ["all positions"] if drawn["together"] else [str(place) for place in range(held["positions"])]
    return [number(value) for value in held["mean"][site]], names


def trace(drawn: dict[str, Any], *, fact: int = 0, average: bool = False, ends: Ends | None = None) -> Picture:
    """Indirect effects of all kinds side by side on one scale, and by layer, at the subject's last token and the last.

    The subject's tokens are orange.  With ``average`` of all facts, by what a token is to the subject.
    """
    if average:
        return _trace_average(drawn, ends)
    held, words = entry(drawn["facts"], fact, "fact"), drawn["vocabulary"]["texts"]
    columns = tuple(visible(words[token]) for token in held["tokens"])
    middle, around = ([number(value) for value in held[name]] for name in ("effect", "spread"))
    low, high = ([m + sign * s for m, s in zip(middle, around, strict=True)] for sign in (-1, 1))
    chosen = dict.fromkeys((held["subject"][1] - 1, len(columns) - 1))
    charts = [_by_layer(drawn, at, f"{columns[at]}, ± spread", middle, low, high) for at in chosen]
    replaced = "" if held["corrupt"] is None else f"corrupt “{visible(held['corrupt'], blank=' ')}”"
    answer = "–" if held["answer"] is None else visible(words[held["answer"]])  # of an interrupted trace
    asked = f"“{visible(held['prompt'], blank=' ')}” → {answer}"
    clean, corrupted = (probability(number(held[name])) for name in ("clean", "corrupted"))
    known = f"clean {clean}, subject corrupted {corrupted}"
    origin = joined([model_words(drawn), bos_words(held["bos"]), asked, replaced])
    marked = frozenset(range(*held["subject"]))
    return _traced(drawn, columns, marked, middle, origin, joined([known, drawn["foot"]]), charts, ends)


def _trace_average(drawn: dict[str, Any], ends: Ends | None) -> Picture:
    held = drawn["average"]
    if held is None:
        raise ValueError("This trace has one fact: an average needs several.")
    columns, facts = tuple(held["classes"]), max(held["facts"])
    middle, low, high = ([number(value) for value in held[name]] for name in ("mean", "low", "high"))
    chosen = [at for at, name in enumerate(columns) if name in ("last subject", "last")]
    charts = [_by_layer(drawn, at, f"{columns[at]}, interval", middle, low, high) for at in chosen]
    marked = frozenset(at for at, name in enumerate(columns) if "subject" in name)
    origin = joined([model_words(drawn), f"average over {facts} facts, by what a token is to the subject"])
    return _traced(drawn, columns, marked, middle, origin, drawn["foot"], charts, ends)


def _traced(
    drawn: dict[str, Any],
    columns: tuple[str, ...],
    marked: frozenset[int],
    numbers: list[float],
    origin: str,
    foot: str,
    charts: list[Chart],
    ends: Ends | None,
) -> Picture:
    layers, count = drawn["layers"], len(columns)
    low, high = ends or (min([0.0, *finite(numbers)]), max([0.0, *finite(numbers)]))
    panels = []
    for kind, name in enumerate(drawn["kinds"]):
        start = kind * len(layers) * count
        values = [numbers[start + layer * count :][:count] for layer in range(len(layers))]
        panels.append(map_of(name, columns, marked, layers, values, lambda value: colours.sequential(value, low, high)))
    window = f"{drawn['window']} {'layer' if drawn['window'] == 1 else 'layers'}"
    meaning = f"indirect effect on the answer’s probability; windows of {window} for mlp and attention"
    scale = (colours.SEQUENTIAL, signed(low), signed(high), meaning)
    return Picture(drawn["title"], origin, tuple(panels), True, *scale, foot, charts=tuple(charts), ends=(low, high))


def _by_layer(
    drawn: dict[str, Any], column: int, name: str, middle: list[float], low: list[float], high: list[float]
) -> Chart:
    """The paper's line plot (Meng et al. 2022, figure 3): one column of every kind by layer."""
    layers, kinds = drawn["layers"], drawn["kinds"]
    count = len(middle) // (len(layers) * len(kinds))

    def of(values: list[float], kind: int) -> tuple[float, ...]:
        return tuple(values[kind * len(layers) * count + layer * count + column] for layer in range(len(layers)))

    lines = tuple(
        Line(kind.replace("_", " "), LOOKS[n % 3], of(middle, n), of(low, n), of(high, n), dashed=n > 2)
        for n, kind in enumerate(kinds)
    )
    return Chart(f"indirect effect at {name}", "layer", tuple(layers), lines)


def _first_shown(count: int) -> set[int]:
    """All layers of a small model; of a large one the last six, and fewer and fewer towards the first."""
    if count <= _ALL:
        return set(range(count))
    below = count - _LAST - 1
    earlier = (int((below - 1) * (1 - (n / (_EARLIER - 1)) ** 1.3) + 0.5) for n in range(_EARLIER))
    return {*range(count - _LAST, count), *earlier}
