"""A comparison of two models as a notebook keeps it: where they agree, and what each says, as two lenses on one scale.

Called by :class:`edif.comparison.Comparison`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import xarray as xr

from edif import outputs

_SIDES = ("first", "second")


class Compared(Protocol):
    """What is drawn of an :class:`edif.comparison.Comparison`."""

    data: xr.Dataset
    provenance: dict[str, Any]
    view: dict[str, Any]

    def mean(self, figure: str = "kl") -> xr.Dataset:
        """One figure's mean by depth."""


def forms(result: Compared, figures: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Its JSON with all tokens of a cell, then with fewer, then with fewer prompts, then with fewer layers."""
    sizes = result.data.sizes
    first, *more = outputs.strides(sizes["depth"], sizes["place"])
    for top in [sizes["top"], *(count for count in (5, 3, 1) if count < sizes["top"])]:
        yield _form(result, figures, top, sizes["prompt"], first)
    for prompts in list(outputs.halvings(sizes["prompt"]))[1:]:
        yield _form(result, figures, 1, prompts, first)
    for stride in more:
        yield _form(result, figures, 1, 1, stride)


def _form(result: Compared, figures: Sequence[str], top: int, prompts: int, stride: int) -> dict[str, Any]:
    whole, known = result.data, result.provenance
    depths = outputs.every(whole.sizes["depth"], stride)
    data = whole.isel(depth=depths, top=slice(top), prompt=slice(prompts))
    reduced = [
        f"{top} of {whole.sizes['top']} tokens a cell" if top < whole.sizes["top"] else "",
        f"{prompts} of {whole.sizes['prompt']} prompts" if prompts < whole.sizes["prompt"] else "",
        f"every {stride}. layer" if stride > 1 else "",
    ]
    shared = f"over {known['shared_tokens']} tokens that both have"
    read = [_is_read(whole, side) for side in (0, 1)]
    unread = [f"the {name} model was not read" for name, is_read in zip(_SIDES, read, strict=True) if not is_read]
    notes = [*unread, shared, *outputs.notes_of(reduced)]
    means = {name: result.mean(name).isel(depth=depths) for name in figures}
    layers = data["layer"].transpose("depth", "side").values.tolist()
    names = known["models"]
    return {
        **outputs.frame(
            "comparison", "Two models compared", {**known, "model": " against ".join(names)}, notes, result.view
        ),
        "models": names,
        "layers": layers,
        "figures": list(figures),
        "prompts": [_agreed(known, data.isel(prompt=row), row, figures) for row in range(prompts)],
        "mean": {
            name: {part: outputs.figures(found[part]) for part in ("mean", "low", "high")}
            for name, found in means.items()
        },
        "sides": [_side(result, data, side) for side in (0, 1) if read[side]] if _rising(layers) else [],
    }


def _is_read(data: xr.Dataset, side: int) -> bool:
    """Whether a model was read at all: of an interrupted comparison one may not have been."""
    return bool(data["entropy"].isel(side=side).notnull().any())


def _rising(layers: list[list[int]]) -> bool:
    """Whether layers go up on both sides: only then each side is a lens of its own."""
    return bool((np.diff(np.array(layers), axis=0) > 0).all())


def _places(data: xr.Dataset) -> Any:
    return np.flatnonzero(data["position"].values[0] >= 0)


def _agreed(known: dict[str, Any], data: xr.Dataset, row: int, figures: Sequence[str]) -> dict[str, Any]:
    """Agreement on one prompt; figures are flat, (depth, place)."""
    places = _places(data)
    return {
        "prompt": known["prompts"][row],
        "tokens": [str(data["first_token"].values[at]) for at in data["position"].values[0][places]],
        "values": {
            name: outputs.figures(data[name].transpose("depth", "place").values[:, places].astype(float))
            for name in figures
        },
    }


def _side(result: Compared, data: xr.Dataset, side: int) -> dict[str, Any]:
    """What one model says, as the JSON of a lens; kl and the next token are not known to a comparison."""
    name, known, words = _SIDES[side], result.provenance["sides"][side], outputs.Vocabulary()
    stopped = {"stopped": result.provenance["stopped"]} if "stopped" in result.provenance else {}
    layers = data["layer"].values[side].tolist()
    return {
        **outputs.frame(
            "logit_lens",
            result.provenance["models"][side],
            {**known, **stopped, "server_seconds": 0, "model": result.provenance["models"][side]},
            [],
            {},
        ),
        "layers": layers,
        "final": bool(np.isclose(float(data["depth"].values[-1]), 1.0)),
        "top": data.sizes["top"],
        "targets": [],
        "prompts": [
            _said(result.provenance, data.isel(prompt=row), row, name, side, words)
            for row in range(data.sizes["prompt"])
        ],
        "vocabulary": words.as_json(),
    }


def _said(
    known: dict[str, Any], data: xr.Dataset, row: int, name: str, side: int, words: outputs.Vocabulary
) -> dict[str, Any]:
    places = _places(data)
    at = data["position"].values[side][places]
    here = data.isel(side=side, place=places)
    axes = ("depth", "place")
    nothing = [None] * (data.sizes["depth"] * len(places))
    return {
        "prompt": known["prompts"][row],
        "bos": known["bos"][row] if side == 0 else None,
        "tokens": words.places(data[f"{name}_id"].values[at], data[f"{name}_token"].values[at]),
        "top": words.places(here["top_id"].transpose(*axes, "top"), here["top_token"].transpose(*axes, "top")),
        "probability": outputs.figures(here["top_probability"].transpose(*axes, "top"), 3),
        "entropy": outputs.figures(here["entropy"].transpose(*axes)),
        "kl": nothing,
        "next": nothing,
        **{f"target_{figure}": [] for figure in ("probability", "rank", "logit")},
    }
