"""``edif.agreement(one, other)``: how far two results of one method agree, say of a model and its quantized self.

Runs in the user's process, on results that are there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from edif.intervals import BOOTSTRAPS, correlation
from edif.result import Result

#: Of more units than this fewer means are drawn, so that it takes no longer.
_MANY = 5_000


def agreement(one: Result, other: Result, *, top: int = 10, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """One row for each map that both hold: lens statistics, sites of a patching, kinds of a causal trace, patterns.

    Columns: Pearson's ``correlation`` over all cells with a bootstrap interval ``low``, ``high``; ``rank_correlation``;
    ``mean_difference`` and ``largest_difference`` (absolute); ``top_overlap``, the part of the cells of largest effect
    that both have; ``cells``; and ``over``, what was drawn anew for the interval: examples, or of a single one cells.

    Args:
        one, other: results of one method on the same prompts, layers and positions.
        top: of how many cells the overlap is.

    Raises:
        ValueError: they are of different methods, prompts or layers.
    """
    if one.kind != other.kind:
        raise ValueError(f"A {one.kind} and a {other.kind} cannot be compared: choose results of one method.")
    asked_of = [{name: known.get(name) for name in ("prompt_ids", "pairs", "facts")} for known in _known(one, other)]
    here, there = _maps(one), _maps(other)
    common = [name for name in here if name in there]
    if asked_of[0] != asked_of[1] or any(here[name].shape != there[name].shape for name in common) or not common:
        raise ValueError("These are results of different prompts, layers or sites: ask both models the same.")
    rows = {name: _figures(here[name].values, there[name].values, top, level, seed) for name in common}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("map")


def _known(one: Result, other: Result) -> tuple[dict[str, Any], dict[str, Any]]:
    return one.provenance, other.provenance


def _maps(result: Any) -> dict[str, xr.DataArray]:
    """What a result says of cells, by name; the first axis is that of examples."""
    data = result.data
    if result.kind in ("activation_patching", "path_patching"):
        return {site: result.effect(site) for site in result.sites}
    if result.kind == "causal_trace":
        return {kind: result.indirect_effect(kind) for kind in data["kind"].values.tolist()}
    names = {
        "logit_lens": ("entropy", "kl", "next_log_probability"),
        "attention": ("pattern", "value_norm", "effect"),
        "steering": ("steered",),
    }.get(result.kind, tuple(getattr(result, "sites", ())))
    if not names:
        raise ValueError(f"Results of {result.kind} hold no maps to compare.")
    return {name: data[name] for name in names if name in data}


def _figures(one: Any, other: Any, top: int, level: float, seed: int) -> dict[str, Any]:
    known = np.isfinite(one) & np.isfinite(other)
    here, there = one[known], other[known]
    if not here.size:
        raise ValueError("No cell is known in both results.")
    units = np.broadcast_to(np.arange(len(one)).reshape(-1, *[1] * (one.ndim - 1)), one.shape)[known]
    several = len(np.unique(units)) > 1
    low, high = _interval(here, there, units if several else np.arange(len(here)), level, seed)
    best = [set(np.argsort(-np.abs(values), kind="stable")[:top].tolist()) for values in (here, there)]
    difference = np.abs(here - there)
    return {
        "correlation": correlation(here, there),
        "low": low,
        "high": high,
        "rank_correlation": correlation(*(pd.Series(values).rank() for values in (here, there))),
        "mean_difference": float(difference.mean()),
        "largest_difference": float(difference.max()),
        "top_overlap": len(best[0] & best[1]) / min(top, len(here)),
        "cells": len(here),
        "over": "examples" if several else "cells",
    }


def _interval(one: Any, other: Any, units: Any, level: float, seed: int) -> tuple[float, float]:
    """Percentiles of the correlation, units being drawn anew."""
    _, numbers = np.unique(units, return_inverse=True)
    here, there = one - one.mean(), other - other.mean()
    parts = (np.ones_like(here), here, there, here * here, there * there, here * there)
    sums = np.stack([np.bincount(numbers, part) for part in parts], 1)  # (units, 6)
    count = len(sums)
    draws = BOOTSTRAPS if count <= _MANY else BOOTSTRAPS // 10
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws):
        n, x, y, xx, yy, xy = np.bincount(generator.integers(0, count, count), minlength=count) @ sums
        size = (xx - x * x / n) * (yy - y * y / n)
        found.append((xy - x * y / n) / np.sqrt(size) if size > 0 else np.nan)
    known = np.array(found)[~np.isnan(found)]
    if not len(known):
        return np.nan, np.nan
    tail = (1 - level) / 2
    low, high = np.quantile(known, (tail, 1 - tail))
    return float(low), float(high)
