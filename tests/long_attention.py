"""Attention of a long prompt as a notebook holds it, for tests of the views and for ``edif bench views``."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

#: Weights of one head by its number: (queries, keys), of which the lower triangle is looked at.
Weights = Callable[[int], Any]


def long_attention(tokens: int, heads: int, weights: Weights) -> dict[str, Any]:
    """The JSON of so many heads on so many tokens; ``weights`` are bytes, 255 for a weight of one."""
    below = np.tril_indices(tokens)
    maps = [
        {
            "layer": n,
            "head": 0,
            "effect": None,
            "norm": None,
            "weights": base64.b64encode(weights(n)[below].astype(np.uint8).tobytes()).decode(),
        }
        for n in range(heads)
    ]
    return {
        "version": 1,
        "kind": "attention",
        "title": "Attention",
        "provenance": {"model": "edif/demo", "dtype": "float32"},
        "foot": "",
        "vocabulary": {"ids": list(range(tokens)), "texts": [f" word{n}" for n in range(tokens)]},
        "prompts": [{"prompt": "long", "bos": False, "tokens": list(range(tokens)), "maps": maps}],
        "view": {},
    }


def random_weights(tokens: int) -> Weights:
    """Of every weight as many: the most that a canvas has to paint."""
    draw = np.random.default_rng(0)
    return lambda head: draw.integers(0, 256, (tokens, tokens), dtype=np.uint8)


def halved_weights(tokens: int) -> Weights:
    """Each token looks at the one before it by half, and at itself by half."""
    weights = np.zeros((tokens, tokens), dtype=np.uint8)
    np.fill_diagonal(weights, 128)
    np.fill_diagonal(weights[1:], 127)
    return lambda head: weights
