"""The picture of attention: which heads matter, where the first of them look, or one head in full.

Called by :func:`edif.picture.of`; runs in the user's process.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edif import colours
from edif.picture_parts import (
    NAN,
    NOTHING,
    Cell,
    Panel,
    Picture,
    Row,
    Thumb,
    bos_words,
    entry,
    finite,
    joined,
    map_of,
    model_words,
    probability,
    signed,
    visible,
)

#: So many heads are shown small, in squares of at most so many steps a side.
_THUMBS, _SIDE = 12, 24
#: More tokens than this are too many for one picture of a head.
_TOKENS = 80


def attention(drawn: dict[str, Any], *, prompt: int = 0, layer: int | None = None, head: int | None = None) -> Picture:
    """Every head by layer, coloured by its effect, and small maps of those that matter most.

    With ``layer`` and ``head`` that head alone: rows look at columns.

    Raises:
        ValueError: a head that is not there, or a prompt of too many tokens for one head's map.
    """
    held = entry(drawn["prompts"], prompt, "prompt")
    words = [visible(drawn["vocabulary"]["texts"][token]) for token in held["tokens"]]
    origin = joined([model_words(drawn), bos_words(held["bos"]), f"“{visible(held['prompt'], blank=' ')}”"])
    if layer is not None or head is not None:
        return _one(drawn, held, words, origin, layer, head)
    effect, meaning = _effects(held, len(words))
    known = finite(effect.values())
    most, signs = max(map(abs, known), default=0.0) or 1.0, min(known, default=0.0) < 0

    def step(value: float) -> str:
        return colours.diverging(value, most) if signs else colours.sequential(value, 0, most)

    columns = tuple(f"head {n}" for n in drawn["heads"])
    values = [[effect.get((row, column), NAN) for column in drawn["heads"]] for row in drawn["layers"]]
    panel = map_of("", columns, frozenset(), drawn["layers"], values, step)
    thumbs = tuple(
        Thumb(f"{one['layer']}.{one['head']}", _small(_weights(one, len(words)))) for one in held["maps"][:_THUMBS]
    )
    shown = f"small: the {len(thumbs)} heads that come first, queries downwards, keys to the right"
    scale = (colours.DIVERGING if signs else colours.SEQUENTIAL, signed(-most) if signs else "0", signed(most))
    foot = joined([shown, drawn["foot"]])
    return Picture(drawn["title"], origin, (panel,), True, *scale, meaning, foot, thumbs=thumbs)


def _effects(held: dict[str, Any], count: int) -> tuple[dict[tuple[int, int], float], str]:
    """By layer and head what the view sorts by, and what that is."""
    known = any(one["effect"] is not None for one in held["maps"])
    found = {}
    for one in held["maps"]:
        elsewhere = 1 - float(_weights(one, count)[:, 0].mean())
        found[one["layer"], one["head"]] = (NAN if one["effect"] is None else one["effect"]) if known else elsewhere
    meaning = (
        "effect: by how much the logit difference falls without the head"
        if known
        else "how much a head looks elsewhere than at the first token, mean"
    )
    return found, meaning


def _one(
    drawn: dict[str, Any], held: dict[str, Any], words: list[str], origin: str, layer: int | None, head: int | None
) -> Picture:
    found = [one for one in held["maps"] if (one["layer"], one["head"]) == (layer, head)]
    if not found:
        first = ", ".join(f"layer={one['layer']}, head={one['head']}" for one in held["maps"][:3])
        raise ValueError(f"There is no head {head} of layer {layer} in this picture: choose one such as {first}.")
    if len(words) > _TOKENS:
        raise ValueError(f"{len(words)} tokens are too many for one head's picture ({_TOKENS}): look at the view.")
    weights = _weights(found[0], len(words))
    rows = tuple(
        Row(
            words[query],
            tuple(_weight(weights[query, key]) if key <= query else Cell("", NOTHING, "") for key in range(len(words))),
        )
        for query in range(len(words))
    )
    panel = Panel(f"head {layer}.{head}", tuple(words), frozenset(), rows, corner="query")
    meaning = "how much each row looks at each column"
    return Picture(
        drawn["title"], origin, (panel,), True, colours.SEQUENTIAL, "0", "1", meaning, drawn["foot"]
    )  # fmt: skip


def _weight(value: float) -> Cell:
    return Cell("", colours.sequential(float(value), 0, 1), probability(float(value)))


def _weights(one: dict[str, Any], count: int) -> NDArray[np.float64]:
    """(queries, keys), out of the lower triangle in bytes."""
    whole = np.zeros((count, count))
    whole[np.tril_indices(count)] = np.frombuffer(base64.b64decode(one["weights"]), dtype=np.uint8) / 255
    return whole


def _small(weights: NDArray[np.float64]) -> tuple[tuple[str, ...], ...]:
    """Steps of a square of at most so many a side: of what falls together the largest, so that no line is lost."""
    count = len(weights)
    edges = np.unique(np.linspace(0, count, min(count, _SIDE) + 1).astype(int))
    rows = np.maximum.reduceat(np.maximum.reduceat(weights, edges[:-1], 0), edges[:-1], 1)
    return tuple(
        tuple(colours.sequential(float(value), 0, 1) if key <= query else NOTHING for key, value in enumerate(row))
        for query, row in enumerate(rows)
    )
