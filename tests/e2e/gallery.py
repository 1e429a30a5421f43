"""Every kind of view with a result of the demo model, for the tests and for the pictures in docs/gallery.md.

Used by test_gallery.py, test_saved_result.py and test_live_views.py.  The results are files that ``save`` wrote, so
the pictures show real figures and nothing is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tests.e2e.own_lab import RESULTS

import edif
from edif.prediction import RESULT_TYPE, NextTokens

#: Made by the class that users' results are made by: this holds kernel and front end together.
PARIS = NextTokens(
    ids=np.array([7042, 12057, 198]),
    tokens=(" Paris", " Rome", "\n"),
    probabilities=np.array([0.656, 0.038, 0.0001]),
    logits=np.array([18.42, 15.57, 9.6]),
    title="Next token",
    provenance={
        "model": "edif/smollm2-135m-demo",
        "dtype": "float32",
        "bos": False,
        "prompt": "The Eiffel Tower is in the city of",
    },
    foot="1 forward · 0.3 s on the server · 12 KB received",
)
_RUNNING = {
    "version": 1,
    "kind": "job",
    "title": "activation patching",
    "state": "RUNNING",
    "description": "",
    "done": 260,
    "total": 420,
    "seconds": 14.2,
    "left_s": 9,
    "log": [],
    "folded": False,
}


def kept(name: str) -> Any:
    """A kept result."""
    return edif.load(RESULTS / f"{name}.edif")


def _bundle(result: Any) -> dict[str, Any]:
    bundle: dict[str, Any] = result._repr_mimebundle_()
    return bundle


def _job() -> dict[str, Any]:
    """A job half-way, with the tiles that are known."""
    found = kept("patching").as_json()
    (pair,) = found["pairs"]
    for run in pair["runs"]:
        values = run["values"]["residual"]
        run["values"]["residual"] = [value if at % 420 < 260 else None for at, value in enumerate(values)]
    return {RESULT_TYPE: {**_RUNNING, "result": found}, "text/plain": "a job that runs"}


#: Output of each kind, as a notebook keeps it.
KINDS: dict[str, Callable[[], dict[str, Any]]] = {
    "next-token": lambda: _bundle(PARIS),
    "lens": lambda: _bundle(kept("lens")),
    "side-by-side": lambda: _bundle(edif.side_by_side(kept("lens"), kept("lens-rome"))),
    "patching": lambda: _bundle(kept("patching")),
    "attribution": lambda: _bundle(kept("attribution")),
    "path": lambda: _bundle(kept("path")),
    "trace": lambda: _bundle(kept("trace")),
    "series": lambda: _bundle(edif.series([kept(f"trace-{window}") for window in (1, 5, 10)])),
    "attention": lambda: _bundle(kept("attention")),
    "steering": lambda: _bundle(kept("steering")),
    "probe": lambda: _bundle(kept("probe")),
    "comparison": lambda: _bundle(kept("comparison")),
    "job": _job,
}
