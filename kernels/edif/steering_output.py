"""Steering as a notebook keeps it: effects and texts by layer and strength, whole at first, then more and more reduced.

Called by :class:`edif.steering.Steering`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import xarray as xr

from edif import outputs
from edif.intervals import bootstrap


class Steered(Protocol):
    """What is drawn of an :class:`edif.steering.Steering`."""

    data: xr.Dataset
    provenance: dict[str, Any]
    view: dict[str, Any]


def forms(result: Steered) -> Iterator[dict[str, Any]]:
    """Its JSON with all prompts, then with fewer, then without texts, then with fewer layers."""
    sizes = result.data.sizes
    first, *more = outputs.strides(sizes["layer"], sizes["strength"])
    for prompts in outputs.halvings(sizes["prompt"]):
        yield _form(result, prompts, first, texts=True)
    for stride in (first, *more):
        yield _form(result, 1, stride, texts=False)


def _form(result: Steered, prompts: int, stride: int, *, texts: bool) -> dict[str, Any]:
    whole, known, words = result.data, result.provenance, outputs.Vocabulary()
    data = whole.isel(layer=outputs.every(whole.sizes["layer"], stride))
    written = texts and "text" in data
    reduced = [
        f"{prompts} of {whole.sizes['prompt']} prompts" if prompts < whole.sizes["prompt"] else "",
        f"every {stride}. layer" if stride > 1 else "",
        "no texts" if "text" in data and not written else "",
    ]
    alone = "one prompt: no interval" if whole.sizes["prompt"] == 1 else ""
    controls = whole.sizes.get("control", 0)
    beside = f"{controls} random directions beside" if controls else "no random directions beside"
    notes = [f"strength in {known['unit']}", alone, beside, *outputs.notes_of(reduced)]
    return {
        **outputs.frame("steering", "Steering", known, notes, result.view),
        "layers": data["layer"].values.tolist(),
        "strengths": data["strength"].values.tolist(),
        "metrics": data["metric"].values.tolist(),
        "unit": known["unit"],
        "ablations": data["ablation"].values.tolist() if "ablation" in data.coords else [],
        "top": data.sizes["top"],
        "prompts": [_prompt(known, data.isel(prompt=row), row, words, written) for row in range(prompts)],
        "mean": None if whole.sizes["prompt"] == 1 else _mean(data),
        "vocabulary": words.as_json(),
    }


def _prompt(
    known: dict[str, Any], data: xr.Dataset, row: int, words: outputs.Vocabulary, written: bool
) -> dict[str, Any]:
    """One prompt; arrays are flat, (metric, layer, strength); of tokens (layer, strength, top)."""
    count = len(known["prompt_ids"][row])
    axes = ("metric", "layer", "strength")
    change = (data["steered"] - data["unsteered"]).transpose(*axes)
    drawn: dict[str, Any] = {
        "prompt": known["prompts"][row],
        "bos": known["bos"][row],
        "tokens": words.places(data["token_id"][:count], data["token"][:count]),
        "answer": known["answer_tokens"][row] if "answer_tokens" in known else None,
        "unsteered": outputs.figures(data["unsteered"], 5),
        "change": outputs.figures(change),
        "top": words.places(data["top_id"], data["top_token"]),
        "probability": outputs.figures(data["top_probability"], 3),
        "control": None,
        "ablated": None,
        "texts": None,
    }
    if "control" in data:
        beside = (data["control"] - data["unsteered"]).transpose("control", *axes)
        drawn["control"] = {
            name: outputs.figures(found)
            for name, found in (("low", beside.min("control")), ("high", beside.max("control")))
        }
    if "ablated" in data:
        without = (data["ablated"] - data["unsteered"]).transpose("ablation", "metric", "layer")
        drawn["ablated"] = outputs.figures(without)
    if written:
        drawn["texts"] = [str(text) for text in data["text"].values.ravel()]
        drawn["unsteered_text"] = str(data["unsteered_text"].values)
    return drawn


def _mean(data: xr.Dataset) -> dict[str, Any]:
    """Mean change over prompts with its interval; flat, (metric, layer, strength)."""
    change = (data["steered"] - data["unsteered"]).transpose("prompt", "metric", "layer", "strength")
    figures = bootstrap(change, 0.95, 0)
    return {
        name: outputs.figures(np.asarray(found)) for name, found in zip(("mean", "low", "high"), figures, strict=True)
    }
