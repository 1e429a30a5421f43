"""What the logit lens does beside the weights: read the stream once, unembed it layer by layer, keep only statistics.

Called by :mod:`edif.logit_lens` through :func:`edif.beside.run`.  All logits of a 70B model and 14 tokens are 547 MB;
what is kept of them is under a megabyte.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder, Paths
from edif.engine.sweeps import Tell, facts


class Change:
    """One activation of another run that is put in place.

    Args:
        ids: tokens of the run that it comes from.
        site: what it is; of one ``head`` where one is named, taken from ``source_head``.
        source: layer and position there.
        target: layer and position where it is put.
    """

    def __init__(
        self,
        ids: Sequence[int],
        site: str,
        source: tuple[int, int],
        target: tuple[int, int],
        head: int | None,
        source_head: int | None,
    ) -> None:
        self._ids, self._source, self._source_head = list(ids), source, source_head
        self.site, self.head = site, head
        self.layer, self.position = target

    def value(self, model: Any, decoder: Decoder) -> torch.Tensor:
        """The activation, (1, width)."""
        layer, position = self._source
        with model.trace(torch.tensor([self._ids]), use_cache=False):
            state = decoder.read(self.site, layer)[:, position].clone()
        return state if self._source_head is None else state[:, self._source_head]


def read(
    model: Any,
    tell: Tell,
    prompts: Sequence[Sequence[int]],
    site: str,
    layers: Sequence[int] | None,
    stride: int,
    positions: Sequence[int] | None,
    targets: Sequence[int],
    top: int,
    tuned: dict[int, tuple[torch.Tensor, torch.Tensor]] | None,
    path: Paths,
    change: Change | None = None,
) -> dict[str, Any]:
    """Statistics of every layer and position.

    Args:
        prompts: token ids; of any lengths.
        layers: which; None for every ``stride``-th from the last one downwards.
        positions: of every prompt; None for all.
        targets: tokens whose logit, log-probability and rank are followed.
        tuned: by layer, matrix and offset of a tuned lens: ``h + h @ matrix.T + offset`` is unembedded.
        path: of parts at unusual places.
        change: made in every prompt's run; with it only the lens on ``residual`` is read in the right order.

    Returns:
        ``layers``; ``facts``; for each prompt in ``prompts`` a dictionary of tensors, each (layers, positions, …):
        ``top_ids``, ``top_log_probability`` (…, top), ``entropy``, ``kl`` to the model's own distribution,
        ``next_log_probability`` of the prompt's own next token (not-a-number at the last position), and of the targets
        ``target_logit``, ``target_log_probability``, ``target_rank`` (…, targets).
    """
    decoder = Decoder(model, path)
    count = len(decoder.layers)
    chosen = sorted(range(count - 1, -1, -stride)) if layers is None else sorted({layer % count for layer in layers})
    found, done = [], 0
    value = None if change is None else change.value(model, decoder)
    for ids in prompts:
        kept = list(range(len(ids))) if positions is None else [place % len(ids) for place in positions]
        with model.trace(torch.tensor([ids]), use_cache=False):
            states = []
            for layer in range(count):
                if change is not None and layer == change.layer:
                    decoder.write(change.site, layer, slice(None), change.position, value, change.head)
                if layer in chosen:
                    states.append(decoder.read(site, layer)[0, kept].clone())
            spoken = model.output.logits[0, kept]
        following = torch.tensor([ids[place + 1] if place + 1 < len(ids) else -1 for place in kept])
        final = spoken.float().log_softmax(-1)
        parts = []
        for layer, state in zip(chosen, states, strict=True):
            if tuned and layer in tuned:
                matrix, offset = (part.to(state) for part in tuned[layer])
                state = state + state @ matrix.T + offset  # noqa: PLW2901 - the same state, translated
            logits = decoder.logits(state).float()
            parts.append(_statistics(logits, final, following, targets, top))
            tell([done], torch.zeros(1, 0))
            done += 1
        found.append({name: torch.stack([part[name] for part in parts]) for name in parts[0]})
        if len(found) < len(prompts):  # of the last one the result itself tells
            tell([], torch.zeros(0, 0), base={len(found) - 1: {**found[-1], "layers": torch.tensor(chosen)}})
    return {"layers": chosen, "prompts": found, "facts": facts(model)}


def _statistics(
    logits: torch.Tensor, final: torch.Tensor, following: torch.Tensor, targets: Sequence[int], top: int
) -> dict[str, torch.Tensor]:
    """Of one layer; ``logits`` and ``final`` are (positions, vocabulary)."""
    spoken = logits.log_softmax(-1)
    best = spoken.topk(min(top, spoken.shape[-1]), -1)
    following = following.to(logits.device)
    next_ = spoken.gather(-1, following.clamp(min=0)[:, None])[:, 0]
    asked = torch.tensor(list(targets), dtype=torch.long, device=logits.device)
    chosen = logits[:, asked]
    found = {
        "top_ids": best.indices,
        "top_log_probability": best.values,
        "entropy": -(spoken.exp() * spoken).sum(-1),
        "kl": (final.exp() * (final - spoken)).sum(-1),
        "next_log_probability": torch.where(following >= 0, next_, torch.nan),
        "target_logit": chosen,
        "target_log_probability": spoken[:, asked],
        "target_rank": torch.stack([(logits > logits[:, [id]]).sum(-1) + 1 for id in targets], -1)
        if len(asked)
        else torch.zeros(len(logits), 0, dtype=torch.long),
    }
    return {name: value.cpu() for name, value in found.items()}
