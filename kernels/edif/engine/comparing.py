"""What ``edif.compare_models`` does beside the weights: what two models say after their layers, held side by side.

Called by :mod:`edif.comparison` through :func:`edif.beside.run`, once for each model.  The first leaves what it says
beside the weights, the second reads it there: all logits of a lens are too many to be sent about.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder, Paths
from edif.engine.sweeps import Tell, facts


class Reading:
    """What is read of one model.

    Args:
        prompts: token ids.
        places: of each prompt, positions that the other model's prompt has too.
        layers: as many as of the other model, from the first to the last.
        shared: tokens that both models have, in the same order for both.
        top: how many of the most probable tokens are kept, and overlap.
        path: of parts at unusual places.
    """

    def __init__(
        self,
        prompts: Sequence[Sequence[int]],
        places: Sequence[Sequence[int]],
        layers: Sequence[int],
        shared: torch.Tensor,
        top: int,
        path: Paths,
    ) -> None:
        self.prompts, self.places = [list(ids) for ids in prompts], [list(row) for row in places]
        self.layers, self.shared, self.top, self.path = list(layers), shared, top, path

    def first(self, prompts: int) -> Reading:
        """The part with so many prompts."""
        return Reading(self.prompts[:prompts], self.places[:prompts], self.layers, self.shared, self.top, self.path)


def read(
    model: Any,
    tell: Tell,
    asked: Reading,
    ranked: int,
    keep: str | None = None,
    other: str | Sequence[torch.Tensor] | None = None,
) -> dict[str, Any]:
    """What one model says after its layers, and how it agrees with ``other``.

    Args:
        ranked: ranks are compared among tokens that either model has among its so many most probable ones.
        keep: name to keep the shared tokens' logits of each prompt (layers, places, shared) by, beside the weights;
            without it they are returned, unless ``other`` is given.
        other: those of the other model, or the name by which they are kept here.

    Returns:
        For each prompt in ``prompts``: ``top_ids`` and ``top_probability`` (layers, places, top), ``entropy`` and
        ``mass`` of the shared tokens (layers, places), and with ``other`` the figures of :func:`agreement`; ``logits``
        where they are given; ``cost``, ``facts``, ``seconds``.
    """
    began, decoder = time.perf_counter(), Decoder(model, asked.path)
    from edif.keeping import keep as leave  # noqa: PLC0415 - the server's own, which knows its shelf
    from edif.keeping import kept as left  # noqa: PLC0415

    there: Any = left(other) if isinstance(other, str) else other
    found: list[dict[str, Any]] = []
    said: list[torch.Tensor] = []
    for number, (ids, places) in enumerate(zip(asked.prompts, asked.places, strict=True)):
        with model.trace(torch.tensor([ids]), use_cache=False):
            states = [decoder.read("residual", layer)[0, places].clone() for layer in asked.layers]
        parts, kept = [], []
        for n, state in enumerate(states):
            logits = decoder.logits(state)
            shared = asked.shared.to(logits.device)
            part = _statistics(logits.float(), shared, asked.top)
            kept.append(logits[:, shared].cpu())
            if there is not None:
                part |= agreement(there[number][n], kept[-1], asked.top, ranked)
            parts.append(part)
        found.append({name: torch.stack([part[name] for part in parts]) for name in parts[0]})
        said.append(torch.stack(kept))
        tell([number], torch.zeros(1, 0), base={number: {**found[-1], "top_ids": found[-1]["top_ids"].int()}})
    if keep is not None:
        leave(said, keep)
    given = said if keep is None and there is None else []
    seconds = time.perf_counter() - began
    return {
        "prompts": found,
        "logits": given,
        "cost": _cost(model),
        "facts": facts(model),
        "seconds": seconds,
    }


def agreement(first: torch.Tensor, second: torch.Tensor, top: int, ranked: int) -> dict[str, torch.Tensor]:
    """How two distributions agree, given their logits over the same tokens (places, tokens); each figure (places).

    ``kl`` of the first from the second and ``kl_back`` the other way round (nats), ``same_top``, ``overlap`` (the part
    of the ``top`` tokens that both have), ``rank_correlation`` (Spearman's).
    """
    one, two = (logits.double().log_softmax(-1) for logits in (first, second))
    best = [values.topk(min(top, values.shape[-1]), -1).indices for values in (one, two)]
    common = (best[0][..., :, None] == best[1][..., None, :]).any(-1).double().mean(-1)
    return {
        "kl": (one.exp() * (one - two)).sum(-1),
        "kl_back": (two.exp() * (two - one)).sum(-1),
        "same_top": (best[0][..., 0] == best[1][..., 0]).double(),
        "overlap": common,
        "rank_correlation": torch.stack([_spearman(a, b, ranked) for a, b in zip(one, two, strict=True)]),
    }


def _spearman(one: torch.Tensor, two: torch.Tensor, ranked: int) -> torch.Tensor:
    """Correlation of ranks, among tokens (tokens) that are among the first ``ranked`` of either."""
    count = min(ranked, len(one))
    some = torch.cat([one.topk(count).indices, two.topk(count).indices]).unique()
    here, there = (_ranks(values[some]) for values in (one, two))
    here, there = here - here.mean(), there - there.mean()
    size = (here.square().sum() * there.square().sum()).sqrt()
    return (here * there).sum() / size


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Ranks, equal values sharing theirs."""
    order, places, counts = values.unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() - 1) / 2)[places] if len(order) else values


def _statistics(logits: torch.Tensor, shared: torch.Tensor, top: int) -> dict[str, torch.Tensor]:
    """Of one layer; ``logits`` are (places, vocabulary)."""
    spoken = logits.log_softmax(-1)
    best = spoken.topk(min(top, spoken.shape[-1]), -1)
    found = {
        "top_ids": best.indices,
        "top_probability": best.values.exp(),
        "entropy": -(spoken.exp() * spoken).sum(-1),
        "mass": spoken[:, shared].exp().sum(-1),
    }
    return {name: value.cpu() for name, value in found.items()}


def _cost(model: Any) -> dict[str, int]:
    """Parameters of the model, and their bytes."""
    sizes = [(part.numel(), part.numel() * part.element_size()) for part in model._module.parameters()]
    return {"parameters": sum(count for count, _ in sizes), "bytes": sum(size for _, size in sizes)}
