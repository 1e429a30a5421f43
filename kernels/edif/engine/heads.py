"""What ``edif.attention`` does beside the weights: read where every head looks, and what becomes without it.

Called by :mod:`edif.attention` through :func:`edif.beside.run`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder
from edif.engine.patches import shifted
from edif.engine.sweeps import Batch, Cell, Plan, Tell, facts, run

#: Patterns of a prompt with more weights than this are not told of while the job runs.
_TOLD_WEIGHTS = 180_000


def attention(
    model: Any,
    tell: Tell,
    prompts: Sequence[Sequence[int]],
    layers: Sequence[int],
    heads: Sequence[int],
    top: int | None,
    norms: bool,
    answers: Sequence[tuple[int, int]],
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Patterns of some heads.

    Args:
        prompts: token ids; of any lengths.
        top: keep the keys with the largest weights only.
        norms: also the norm of what each position's value would write through each head.
        answers: for each prompt, the right and the wrong token of the logit difference that heads are ranked by; or
            none, and nothing is ablated.
        limits: ``layers``, ``batch_tokens`` and ``batch_bytes`` of a sweep's plan.

    Returns:
        For each prompt in ``prompts``: ``pattern`` (layers, heads, queries, keys), or ``top_key`` and ``top_weight``
        (layers, heads, queries, top); ``value_norm`` (layers, heads, keys); ``effect`` (layers, heads), by how much the
        logit difference falls when the head's output is zero everywhere; and ``facts``, ``seconds``.
    """
    decoder, began = Decoder(model, limits["layers"]), time.perf_counter()
    found, done = [], 0
    for row, ids in enumerate(prompts):
        parts = _read(model, decoder, ids, layers, heads, top, norms)
        told = list(range(done, done + len(layers)))
        tell(told, torch.zeros(len(layers), 0), base={row: _told(parts)})
        done += len(layers)
        if answers:
            known: dict[str, torch.Tensor] = {}
            here = shifted(tell, done, row, known.copy)
            parts["effect"] = _effects(model, here, known, decoder, ids, layers, heads, answers[row], limits)
            done += len(layers) * len(heads)
        found.append(parts)
    return {"prompts": found, "facts": facts(model), "seconds": time.perf_counter() - began}


def _read(
    model: Any,
    decoder: Decoder,
    ids: Sequence[int],
    layers: Sequence[int],
    heads: Sequence[int],
    top: int | None,
    norms: bool,
) -> dict[str, torch.Tensor]:
    chosen, values = list(heads), {}
    with decoder.eager(), model.trace(torch.tensor([list(ids)]), use_cache=False):
        patterns = []
        for layer in layers:
            if norms:
                values[layer] = decoder.read("v", layer)[0].clone()
            weights = decoder.pattern(layer)[0, chosen].float()
            patterns.append(weights.cpu() if top is None else weights.topk(min(top, len(ids)), -1))
    found = {}
    if top is None:
        found["pattern"] = torch.stack(patterns)
    else:
        found["top_weight"] = torch.stack([best.values.cpu() for best in patterns])
        found["top_key"] = torch.stack([best.indices.cpu() for best in patterns])
    if norms:
        found["value_norm"] = torch.stack([_written(decoder, layer, values[layer], chosen) for layer in layers])
    return found


def _told(parts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is drawn of a prompt while the job runs: weights in steps of 1/255, their lower triangle alone.

    Returns:
        ``weights`` (layers, heads, queries · (queries + 1) / 2), as bytes; nothing where they are too many.
    """
    pattern = parts.get("pattern")
    if pattern is None:
        return {}
    rows, columns = torch.tril_indices(*pattern.shape[-2:]).unbind()
    below = pattern[..., rows, columns]
    return {"weights": (below * 255).round().to(torch.uint8)} if below.numel() <= _TOLD_WEIGHTS else {}


def _written(decoder: Decoder, layer: int, values: torch.Tensor, heads: Sequence[int]) -> torch.Tensor:
    """Norm of what a layer's heads write of each position's value (positions, groups, head width): (heads, keys)."""
    project, own = decoder.projection(layer)._module, decoder.of_heads(values)
    nothing = torch.zeros(len(values), decoder.heads, decoder.head_width, dtype=values.dtype, device=values.device)
    offset = project(nothing.flatten(-2))
    norms = []
    for head in heads:
        alone = nothing.clone()
        alone[:, head] = own[:, head]
        norms.append((project(alone.flatten(-2)) - offset).float().norm(dim=-1).cpu())
    return torch.stack(norms)


def _effects(
    model: Any,
    tell: Tell,
    known: dict[str, torch.Tensor],
    decoder: Decoder,
    ids: Sequence[int],
    layers: Sequence[int],
    heads: Sequence[int],
    answer: tuple[int, int],
    limits: dict[str, Any],
) -> torch.Tensor:
    """By how much the logit difference falls without each head: (layers, heads).

    ``known`` gets the difference that the ones without a head are compared with, as soon as it is there.
    """
    right, wrong = answer

    def silence(model: Any, batch: Batch) -> None:
        for rows, cell in batch:
            decoder.write("head", cell.layer, rows, slice(None), torch.tensor(0.0), cell.head)

    def measure(model: Any, batch: Batch) -> torch.Tensor:
        logits = model.output.logits[:, -1].float()
        difference: torch.Tensor = logits[:, right] - logits[:, wrong]
        if batch.layer < 0:
            known["unchanged"] = difference.detach().cpu()
        return difference

    cells = [Cell(layer, 0, "head", head) for layer in layers for head in heads]
    plan = Plan(cells, silence, measure, None, None, logits_to_keep=1, **limits)
    swept = run(model, tell, _row(ids), plan)
    effect: torch.Tensor = swept["base"][0] - swept["values"][:, 0].unflatten(0, (len(layers), len(heads)))
    return effect


def _row(ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(ids)])
