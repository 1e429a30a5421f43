"""Reads activations of many prompts, batched, beside the weights: what probes learn from and directions are made of.

Used by :mod:`edif.engine.directions` and :mod:`edif.engine.probes`.  Prompts of equal length share a forward pass;
none is padded, so each gives what it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder
from edif.engine.sweeps import CPU_TOKENS, GPU_TOKENS, last_logits


def read(
    model: Any,
    decoder: Decoder,
    prompts: Sequence[Sequence[int]],
    site: str,
    layers: Sequence[int],
    positions: Sequence[int],
    done: Callable[[int], None] = lambda count: None,
) -> torch.Tensor:
    """Activations at a site, in 32 bits on the CPU: (layers, prompts, positions, width).

    Args:
        prompts: token ids; of any lengths.
        positions: of each prompt; negative ones count from its end.
        done: told how many prompts have been read.
    """
    found = torch.empty(len(layers), len(prompts), len(positions), decoder.width)
    for places in batches(model, prompts):
        ids = torch.tensor([list(prompts[place]) for place in places])
        kept = [position % ids.shape[1] for position in positions]
        with model.trace(ids, use_cache=False, **last_logits(model)):
            states = [decoder.read(site, layer)[:, kept].clone() for layer in layers]
        for number, state in enumerate(states):
            found[number, places] = state.detach().float().cpu()
        done(len(places))
    return found


def batches(model: Any, prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of prompts that share a forward pass: of equal length, and as many as are faster together."""
    most = CPU_TOKENS if model._module.device.type == "cpu" else GPU_TOKENS
    lengths: dict[int, list[int]] = {}
    for place, ids in enumerate(prompts):
        lengths.setdefault(len(ids), []).append(place)
    for length, places in lengths.items():
        size = max(1, most // length)
        for first in range(0, len(places), size):
            yield places[first : first + size]


def norms(model: Any, decoder: Decoder, prompts: Sequence[Sequence[int]], site: str, layers: Sequence[int]) -> Any:
    """Mean norm of a layer's activations over prompts and positions: (layers).

    The first position is left out where there are others: many models put a very large activation there.
    """
    sums, count = torch.zeros(len(layers), dtype=torch.float64), 0
    for places in batches(model, prompts):
        ids = torch.tensor([list(prompts[place]) for place in places])
        first = min(1, ids.shape[1] - 1)
        with model.trace(ids, use_cache=False, **last_logits(model)):
            sizes = [decoder.read(site, layer)[:, first:].float().norm(dim=-1).sum() for layer in layers]
        sums += torch.stack([size.detach().cpu().double() for size in sizes])
        count += ids[:, first:].numel()
    return sums / count


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Vectors (…, width) of length 1; a zero vector stays one."""
    sizes = vectors.norm(dim=-1, keepdim=True)
    return torch.where(sizes > 0, vectors / sizes.clamp(min=torch.finfo(vectors.dtype).tiny), 0.0)
