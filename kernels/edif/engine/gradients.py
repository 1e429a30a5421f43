"""What attribution patching does beside the weights: two forward passes and one backward pass for every cell at once.

Called by :mod:`edif.attribution` through :func:`edif.beside.run`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder, Paths
from edif.engine.patches import Pair, pattern_outputs
from edif.engine.sweeps import Tell, facts


def attribution(
    model: Any, tell: Tell, pairs: Sequence[Pair], sites: Sequence[str], layers: Sequence[int], path: Paths
) -> dict[str, Any]:
    """First-order estimate of what patching each cell would do to the logit difference.

    ``(source activation − changed activation) · ∂ metric / ∂ activation``, the gradient being that of the changed run.

    Returns:
        For each pair, by site, ``values`` (layers, positions[, heads]), not-a-number where a position has no
        counterpart; ``changed`` and ``source``, the logit differences of both runs; and ``facts``, ``seconds``.
    """
    began, decoder = time.perf_counter(), Decoder(model, path)
    found: dict[str, Any] = {"values": [], "changed": [], "source": []}
    for number, pair in enumerate(pairs):
        with torch.no_grad():
            source_states, source = _activations(model, decoder, pair.source, pair, sites, layers)
            if "pattern" in sites:  # as what it makes of the values
                made = pattern_outputs(model, decoder, pair.source, pair.ids)
                source_states |= {("pattern", layer): made[layer].flatten(-2) for layer in layers}
        with torch.enable_grad():
            states, changed = _activations(model, decoder, pair.ids, pair, sites, layers)
            gradients = torch.autograd.grad(changed, list(states.values()))
        found["values"].append(
            {
                site: torch.stack(
                    [
                        _estimate(decoder, site, pair, source_states[site, n], states[site, n], gradient)
                        for (s, n), gradient in zip(states, gradients, strict=True)
                        if s == site
                    ]
                )
                for site in sites
            }
        )
        found["changed"].append(float(changed.detach()))
        found["source"].append(float(source.detach()))
        ends = {name: torch.tensor(found[name][-1], dtype=torch.float64) for name in ("changed", "source")}
        tell([number], torch.zeros(1, 0), base={number: {**found["values"][-1], **ends}})
    return {**found, "facts": facts(model), "seconds": time.perf_counter() - began}


def _activations(
    model: Any, decoder: Decoder, ids: Sequence[int], pair: Pair, sites: Sequence[str], layers: Sequence[int]
) -> tuple[dict[tuple[str, int], torch.Tensor], torch.Tensor]:
    """The tensors that hold the sites, and the logit difference at the last position."""
    with model.trace(torch.tensor([list(ids)]), use_cache=False):
        if torch.is_grad_enabled():
            decoder.embedding.output.requires_grad_(True)  # weights are frozen: gradients begin here
        states = {(site, layer): decoder.tensor(_held(site), layer) for layer in layers for site in sites}
        logits = model.output.logits[0, -1].float()
    return states, logits[pair.right] - logits[pair.wrong]


def _held(site: str) -> str:
    """The site whose tensor holds this one: a pattern is given by what it makes of the values."""
    return "head" if site == "pattern" else site


def _estimate(
    decoder: Decoder, site: str, pair: Pair, source: torch.Tensor, changed: torch.Tensor, gradient: torch.Tensor
) -> torch.Tensor:
    """One site and layer: (positions[, heads])."""
    tensors = (source, changed, gradient)
    there, here, slope = (decoder.shaped(_held(site), tensor.detach())[0].float() for tensor in tensors)
    found = torch.full(here.shape[:-1], torch.nan)
    for place, counterpart in pair.positions.items():
        found[place] = ((there[counterpart] - here[place]) * slope[place]).sum(-1).cpu()
    return found
