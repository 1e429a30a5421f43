"""Pictures of steering, of probes and of compared models: figures by layer and over strengths, with their intervals.

Called by :func:`edif.picture.of`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edif import colours
from edif.picture_parts import (
    Chart,
    Ends,
    Line,
    Look,
    Picture,
    bos_words,
    entry,
    finite,
    joined,
    map_of,
    model_words,
    place_of,
    probability,
    signed,
    symmetric,
    visible,
)

_INTERVAL = "95 % interval"


def steering(
    drawn: dict[str, Any],
    *,
    prompt: int | None = None,
    metric: str | None = None,
    layer: int | None = None,
    ends: Ends | None = None,
) -> Picture:
    """Change of a metric by layer and strength, and over strengths at one layer (that of the largest change).

    The mean over prompts with its interval; of one prompt where there is one, or one is asked for.
    """
    layers, strengths, measure = drawn["layers"], drawn["strengths"], place_of(drawn["metrics"], metric)
    shape = (len(drawn["metrics"]), len(layers), len(strengths))
    mean = drawn["mean"] if prompt is None else None
    some = drawn["prompts"] if mean else [entry(drawn["prompts"], prompt or 0, "prompt")]
    values = _shaped(mean["mean"] if mean else some[0]["change"], shape)[measure]
    low, high = (_shaped(mean[name], shape)[measure] for name in ("low", "high")) if mean else (values, values)
    row = _row(layers, layer, values)
    lines = [_line("steered", "blue", values[row], low[row], high[row])]
    if beside := [one["control"] for one in some if one["control"] is not None]:
        least, most = (
            np.stack([_shaped(one[name], shape)[measure, row] for one in beside]) for name in ("low", "high")
        )
        nothing = np.full(len(strengths), np.nan)
        lines.append(_line("random directions, range", "muted", nothing, least.min(0), most.max(0)))
    name = drawn["metrics"][measure].replace("_", " ")
    chart = Chart(
        f"change of {name}, layer {layers[row]}", f"strength in {drawn['unit']}", tuple(strengths), tuple(lines)
    )
    extent = symmetric(values.ravel().tolist(), ends)
    columns = tuple(f"{strength:+g}".replace("-", "−") if strength else "0" for strength in strengths)
    panel = map_of("", columns, frozenset(), layers, values.tolist(), lambda value: colours.diverging(value, extent))
    about = f"mean over {len(some)} prompts" if mean else f"“{visible(some[0]['prompt'], blank=' ')}”"
    origin = joined([model_words(drawn), *([] if mean else [bos_words(some[0]["bos"])]), about])
    scale = (colours.DIVERGING, signed(-extent), signed(extent), f"change of {name}; columns: strength")
    return Picture(
        drawn["title"], origin, (panel,), True, *scale, drawn["foot"], charts=(chart,), ends=(-extent, extent)
    )


def probe(drawn: dict[str, Any], *, position: int = 0, towards: str | None = None, layer: int | None = None) -> Picture:
    """Accuracy by layer beside shuffled labels, and beside it what the direction does: by layer and over strengths."""
    layers, positions = drawn["layers"], drawn["positions"]
    entry(positions, position, "position")
    shape = (len(layers), len(positions))

    def at(values: Sequence[Any]) -> NDArray[np.float64]:
        return _shaped(values, shape)[:, position]

    control = drawn["control"]
    lines = (
        _line("probe", "blue", *(at(drawn[name]) for name in ("accuracy", "low", "high"))),
        _line("shuffled labels", "orange", *(at(control[name]) for name in ("mean", "low", "high"))),
        _line("chance", "muted", np.full(len(layers), drawn["chance"]), dashed=True),
    )
    charts = [Chart(f"accuracy at {positions[position]}", "layer", tuple(layers), lines)]
    if drawn["effects"] is not None:
        charts += _effect_charts(drawn, position, place_of(drawn["towards"], towards), layer)
    origin = joined([model_words(drawn), " / ".join(drawn["classes"])])
    panels, chance = [], drawn["chance"]
    if len(positions) > 1:
        values = _shaped(drawn["accuracy"], shape).tolist()
        step = lambda value: colours.sequential(value, chance, 1)  # noqa: E731
        panels.append(map_of("", tuple(map(str, positions)), frozenset(), layers, values, step, probability))
    scale = (colours.SEQUENTIAL, probability(chance), "1", "accuracy, from chance on")
    return Picture(drawn["title"], origin, tuple(panels), True, *scale, drawn["foot"], charts=tuple(charts))


def _effect_charts(drawn: dict[str, Any], position: int, towards: int, layer: int | None) -> list[Chart]:
    """What the direction does to the lead of an answer: by layer, and at one layer over strengths."""
    layers, strengths, name = drawn["layers"], drawn["strengths"], drawn["towards"][towards]
    shape = (len(layers), len(drawn["positions"]), len(drawn["towards"]), len(strengths) + 2)
    found = {of: _shaped(drawn["effects"][of], shape)[:, position, towards] for of in ("mean", "low", "high")}
    steered, swapped, whole = ([found[of][:, part] for of in ("mean", "low", "high")] for part in (slice(-2), -2, -1))
    row = _row(layers, layer, steered[0])
    by_layer = (
        _line("part along the direction", "blue", *swapped),
        _line("whole activation", "orange", *whole),
    )
    over = (_line("steered", "blue", *(values[row] for values in steered)),)
    return [
        Chart(f"lead of {name} when taken from there", "layer", tuple(layers), by_layer),
        Chart(
            f"lead of {name}, steered at layer {layers[row]}", f"strength in {drawn['unit']}", tuple(strengths), over
        ),
    ]


def comparison(drawn: dict[str, Any], *, prompt: int = 0, figure: str | None = None) -> Picture:
    """Where two models agree: one figure by depth and token, and its mean by depth with an interval."""
    held, name = entry(drawn["prompts"], prompt, "prompt"), drawn["figures"][place_of(drawn["figures"], figure)]
    pairs = drawn["layers"]
    names = [str(one) if one == other else f"{one}/{other}" for one, other in pairs]
    values = _shaped(held["values"][name], (len(pairs), len(held["tokens"])))
    known = finite(values.ravel().tolist())
    low, high = min(known, default=0.0), max(known, default=0.0)
    signs, bounded = low < 0, not name.startswith("kl")
    extent = 1.0 if bounded else high or 1.0

    def step(value: float) -> str:
        return colours.diverging(value, extent) if signs else colours.sequential(value, 0, extent)

    columns = tuple(map(visible, held["tokens"]))
    panel = map_of("", columns, frozenset(), names, values.tolist(), step, probability)
    mean = drawn["mean"][name]
    line = _line("mean", "blue", *(_shaped(mean[part], (len(pairs),)) for part in ("mean", "low", "high")))
    said = {"kl": "KL, nats", "kl_back": "KL back, nats"}.get(name, name.replace("_", " "))
    chart = Chart(f"{said}, {_INTERVAL}", f"layer of {drawn['models'][0]}", tuple(pair[0] for pair in pairs), (line,))
    origin = joined([model_words(drawn), f"“{visible(held['prompt'], blank=' ')}”"])
    scale = (colours.DIVERGING if signs else colours.SEQUENTIAL, signed(-extent) if signs else "0", f"{extent:.3g}")
    return Picture(drawn["title"], origin, (panel,), True, *scale, said, drawn["foot"], charts=(chart,))


def _shaped(values: Sequence[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Figures of the JSON, flat there; nothing is not-a-number."""
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64).reshape(shape)


def _line(
    name: str,
    look: Look,
    values: NDArray[np.float64],
    low: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
    *,
    dashed: bool = False,
) -> Line:
    around = [() if some is None else tuple(some.tolist()) for some in (low, high)]
    return Line(name, look, tuple(values.tolist()), around[0], around[1], dashed)


def _row(layers: Sequence[int], layer: int | None, values: NDArray[np.float64]) -> int:
    """Place of the layer that is asked for; by default that of the largest value of either sign."""
    if layer is None:
        return int(np.nan_to_num(abs(values)).max(1).argmax())
    if layer not in layers:
        raise ValueError(f"There is no layer {layer} in this picture: there is {', '.join(map(str, layers))}.")
    return list(layers).index(layer)
