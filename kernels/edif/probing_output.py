"""A probe as a notebook keeps it: accuracy and its control beside effects, whole at first, then more and more reduced.

Called by :class:`edif.probing.Probe`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import xarray as xr

from edif import outputs
from edif.prediction import visible


class Probed(Protocol):
    """What is drawn of an :class:`edif.probing.Probe`."""

    data: xr.Dataset
    provenance: dict[str, Any]
    view: dict[str, Any]

    def effect(self, kind: str = "steered") -> xr.Dataset:
        """Mean effects and their interval."""


def forms(result: Probed) -> Iterator[dict[str, Any]]:
    """Its JSON with all layers, then with fewer."""
    sizes = result.data.sizes
    columns = sizes["position"] * (2 + sizes.get("strength", 0)) * sizes.get("towards", 1)
    for stride in outputs.strides(sizes["layer"], columns):
        yield _form(result, stride)


def _form(result: Probed, stride: int) -> dict[str, Any]:
    whole, known = result.data, result.provenance
    rows = outputs.every(whole.sizes["layer"], stride)
    data = whole.isel(layer=rows)
    shuffled = data["control"].transpose("shuffle", "layer", "position")
    labels = whole["label"].values.tolist()
    classes = whole["class"].values.tolist()
    cases = f"effects on {whole.sizes['case']} prompts" if "case" in whole.dims else f"no effects: {_lacking(known)}"
    reduced = [f"every {stride}. layer" if stride > 1 else ""]
    notes = [f"{whole.sizes['prompt']} prompts, {whole.sizes['shuffle']} shuffles of labels", cases]
    return {
        **outputs.frame("probe", "Linear probe", known, [*notes, *outputs.notes_of(reduced)], result.view),
        "layers": data["layer"].values.tolist(),
        "positions": [_place(whole, place) for place in whole["position"].values.tolist()],
        "classes": classes,
        "chance": max(labels.count(name) for name in classes) / len(labels),
        "unit": known["unit"],
        **{name: outputs.figures(data[name].transpose("layer", "position")) for name in ("accuracy", "low", "high")},
        "control": {
            "mean": outputs.figures(shuffled.mean("shuffle")),
            "low": outputs.figures(shuffled.min("shuffle")),
            "high": outputs.figures(shuffled.max("shuffle")),
        },
        "towards": whole["towards"].values.tolist(),
        "strengths": whole["strength"].values.tolist() if "strength" in whole.coords else [],
        "effects": _effects(result, rows) if "steered" in whole else None,
        "lacking": _lacking(known),
    }


def _lacking(known: dict[str, Any]) -> str:
    """Why there are no effects, where there are none."""
    return "not known yet" if known.get("answers") else "name answers=…"


def _place(data: xr.Dataset, place: int) -> str:
    """A position in words: its number, and its token where that is the same in all prompts."""
    tokens = set()
    for row in data["token_id"].values:
        held = row[row >= 0]
        tokens.add(int(held[place]))
    if len(tokens) > 1:
        return str(place)
    first = data.isel(prompt=0)
    text = str(first["token"].values[first["token_id"].values >= 0][place])
    return f"{place} {visible(text)}"


def _effects(result: Probed, rows: list[int]) -> dict[str, Any]:
    """Mean effects with their intervals; flat, (layer, position, towards, column): strengths, swapped, interchanged."""
    found = [result.effect(kind).isel(layer=rows) for kind in ("steered", "swapped", "interchanged")]
    axes = ("layer", "position", "towards")
    return {
        name: outputs.figures(
            np.concatenate(
                [
                    found[0][name].transpose(*axes, "strength").values,
                    *(part[name].transpose(*axes).values[..., None] for part in found[1:]),
                ],
                -1,
            )
        )
        for name in ("mean", "low", "high")
    }
