"""Activation patching as a notebook keeps it: the JSON of its maps, whole at first, then more and more reduced.

Called by :class:`edif.patching.ActivationPatching`; runs in the user's process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Protocol

import numpy as np
import xarray as xr

from edif import outputs
from edif.engine.decoder import HEADED

#: Intervals are drawn anew for every cell: for more cells than this that would keep a reader waiting.
_INTERVALS = 20_000
#: The front end's word for these maps, of path patching too.
DRAWN = "activation_patching"


class Patched(Protocol):
    """What is drawn of an :class:`edif.patching.ActivationPatching`."""

    title: ClassVar[str]
    data: xr.Dataset
    provenance: dict[str, Any]
    view: dict[str, Any]

    @property
    def sites(self) -> list[str]:
        """What was patched."""

    def span(self) -> xr.DataArray:
        """What clean and corrupt run differ by."""

    def mean(self, site: str | None = None, **chosen: Any) -> xr.Dataset:
        """Mean effects and their interval."""


def forms(result: Patched) -> Iterator[dict[str, Any]]:
    """Its JSON with all pairs and metrics, then with fewer pairs, then the first metric alone, then fewer layers."""
    sizes = result.data.sizes
    first, *more = outputs.strides(sizes["layer"], sizes["position"] * _parts(result))
    for pairs in outputs.halvings(sizes["pair"]):
        yield _form(result, pairs, sizes["metric"], first)
    for stride in (first, *more):
        yield _form(result, 1, 1, stride)


def _form(result: Patched, pairs: int, metrics: int, stride: int) -> dict[str, Any]:
    sizes, known, words = result.data.sizes, result.provenance, outputs.Vocabulary()
    rows = outputs.every(sizes["layer"], stride)
    reduced = [
        f"{pairs} of {sizes['pair']} pairs" if pairs < sizes["pair"] else "",
        f"{metrics} of {sizes['metric']} metrics" if metrics < sizes["metric"] else "",
        f"every {stride}. layer" if stride > 1 else "",
    ]
    mean = _mean(result, metrics, rows) if sizes["pair"] > 1 else None
    alone = "one pair: no interval" if sizes["pair"] == 1 else "" if mean else "mean over pairs: .mean()"
    data = result.data.isel(layer=rows, metric=slice(metrics))
    return {
        **outputs.frame(
            DRAWN, result.title, known, [known.get("path", ""), alone, *outputs.notes_of(reduced)], result.view
        ),
        "layers": data["layer"].values.tolist(),
        "directions": data["direction"].values.tolist(),
        "metrics": data["metric"].values.tolist(),
        "sites": [_site(result, site) for site in result.sites],
        "together": known.get("positions") == "together",
        "path": known.get("path"),
        "pairs": [_pair(result, data.isel(pair=pair), pair, words) for pair in range(pairs)],
        "mean": mean,
        "vocabulary": words.as_json(),
    }


def _site(result: Patched, site: str) -> dict[str, Any]:
    """A site's name, and what it has several of at each position."""
    part = str(result.data[site].dims[-1]) if site in HEADED else None
    return {"name": site, "part": part, "parts": result.data.sizes[part] if part else 1}


def _parts(result: Patched) -> int:
    return max(int(_site(result, site)["parts"]) for site in result.sites)


def _pair(result: Patched, data: Any, pair: int, words: outputs.Vocabulary) -> dict[str, Any]:
    """One pair of prompts; arrays are flat, (metric, layer, position, part)."""
    known = result.provenance["pairs"][pair]
    together = result.provenance.get("positions") == "together"
    defined = result.span().isel(pair=pair).notnull()
    runs = []
    for way, name in enumerate(data["direction"].values.tolist()):
        length = 1 if together else len(known["corrupt_ids" if name == "denoise" else "clean_ids"])
        run = data.isel(direction=way, position=slice(length))
        runs.append(
            {
                "tokens": words.places(run["token_id"], run["token"]),
                "aligned": sorted(places[name == "denoise"] for places in known["aligned"]),
                "differs": sorted(
                    places[name == "denoise"]
                    for places in known["aligned"]
                    if known["clean_ids"][places[0]] != known["corrupt_ids"][places[1]]
                ),
                "clean": outputs.figures(run["clean"], 5),
                "corrupt": outputs.figures(run["corrupt"], 5),
                "defined": defined.values[way, : data.sizes["metric"]].tolist(),
                "values": {site: outputs.figures(run[site]) for site in result.sites},
            }
        )
    return {
        **{name: known[name] for name in ("clean", "corrupt", "bos")},
        "answer": words.places(known["answer"], known["answer_tokens"]),
        "runs": runs,
    }


def _mean(result: Patched, metrics: int, rows: list[int]) -> list[dict[str, Any]] | None:
    """For each direction, mean normalised effects over pairs with their interval; None where that takes too long."""
    sizes = result.data.sizes
    if (
        sizes["direction"] * metrics * len(result.sites) * sizes["layer"] * sizes["position"] * _parts(result)
        > _INTERVALS
    ):
        return None
    made = []
    for way in result.data["direction"].values.tolist():
        run: dict[str, Any] = {"positions": sizes["position"], "mean": {}, "low": {}, "high": {}}
        for site in result.sites:
            each = [
                result.mean(site, direction=way, metric=name).isel(layer=rows)
                for name in result.data["metric"].values.tolist()[:metrics]
            ]
            for figure in ("mean", "low", "high"):
                run[figure][site] = outputs.figures(np.stack([found[figure].values for found in each]))
        made.append(run)
    return made
