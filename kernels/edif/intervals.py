"""How sure a figure is: means over examples with a bootstrap interval, shares with Wilson's.

Used by the results of the methods; runs in the user's process.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: How often examples are drawn anew.
BOOTSTRAPS = 2000

Numbers = NDArray[np.float64]


def bootstrap(values: Any, level: float = 0.95, seed: int = 0) -> tuple[Numbers, Numbers, Numbers]:
    """Mean over the first axis, and the percentiles of 2,000 means of examples drawn anew: ``mean``, ``low``, ``high``.

    What is not known (not-a-number) does not count; where nothing is known, neither is the mean.
    """
    held = np.asarray(values, dtype=np.float64)
    draw = np.random.default_rng(seed).integers(0, len(held), (BOOTSTRAPS, len(held)))
    weights = np.stack([np.bincount(row, minlength=len(held)) for row in draw]).astype(float)
    known = ~np.isnan(held)
    sums = np.tensordot(weights, np.where(known, held, 0.0), 1)
    counts = np.tensordot(weights, known.astype(float), 1)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    tail = (1 - level) / 2
    low, high = _quantiles(means, (tail, 1 - tail))
    mean = np.where(known.any(0), np.where(known, held, 0.0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return mean, low, high


def wilson(right: Any, count: Any, level: float = 0.95) -> tuple[Numbers, Numbers]:
    """Wilson's interval of a share, ``right`` of ``count``: also at 0 and 1 it says how few examples there were."""
    n = np.asarray(count, dtype=np.float64)
    share = np.asarray(right, dtype=np.float64) / n
    z = NormalDist().inv_cdf((1 + level) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def correlation(one: Any, other: Any) -> float:
    """Pearson's; not-a-number where one of them does not vary."""
    here, there = (np.asarray(values, dtype=np.float64).ravel() for values in (one, other))
    here, there = here - here.mean(), there - there.mean()
    size = math.sqrt(float(here @ here) * float(there @ there))
    return float(here @ there) / size if size else math.nan


def _quantiles(values: Numbers, at: tuple[float, float]) -> Numbers:
    """Quantiles over the first axis; not-a-number where nothing is known."""
    known = ~np.isnan(values).all(0)
    found = np.full((2, *values.shape[1:]), np.nan)
    found[:, known] = np.nanquantile(values[:, known], at, axis=0)
    return found
