"""What ``edif.steer`` does beside the weights: move activations along a direction, and see what the model then says.

Called by :mod:`edif.steering` through :func:`edif.beside.run`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from edif.engine.changes import Change, Changes
from edif.engine.decoder import Decoder
from edif.engine.metrics import Metrics
from edif.engine.patches import shifted
from edif.engine.states import norms, read, unit
from edif.engine.sweeps import Batch, Tell, facts
from edif.engine.writing import write

#: How an activation is kept from pointing along the direction: in its own layer alone, or in all layers.
ABLATIONS = ("here", "everywhere")


class Steering:
    """What is asked of each prompt, the same for all.

    Args:
        layers: which layers' directions are used.
        strengths: multiples of ``scale``.
        relative: strengths are in units of the mean norm of the layer's activations; else of the direction's own.
        ablations: of :data:`ABLATIONS`.
        controls: how many random directions are tried beside.
        positions: of the prompts; None for every position, of what is written too.
        top: how many of the most probable tokens are kept.
        tokens: how many are written.
    """

    def __init__(
        self,
        site: str,
        layers: Sequence[int],
        strengths: Sequence[float],
        relative: bool,
        ablations: Sequence[str],
        controls: int,
        seed: int,
        positions: Sequence[int] | None,
        top: int,
        tokens: int,
    ) -> None:
        self.site, self.layers, self.strengths, self.relative = site, list(layers), list(strengths), relative
        self.ablations, self.controls, self.seed = list(ablations), controls, seed
        self.positions, self.top, self.tokens = positions, top, tokens

    def count(self) -> int:
        """How many cells each prompt has."""
        return len(self.layers) * (len(self.strengths) * (1 + self.controls) + len(self.ablations))

    def texts(self) -> list[int | None]:
        """Which changes something is written with: none first, then the direction's, then ablations; no control."""
        steered = len(self.layers) * len(self.strengths)
        return [None, *range(steered), *range(steered * (1 + self.controls), self.count())]

    def changes(self, directions: torch.Tensor, scale: torch.Tensor) -> list[Change]:
        """All changes: by strength (direction first, then controls), then ablations; each layer after layer."""
        ways = [unit(directions) if self.relative else directions]
        generator = torch.Generator().manual_seed(self.seed)
        for _ in range(self.controls):
            drawn = unit(torch.randn(directions.shape, generator=generator))
            ways.append(drawn if self.relative else drawn * directions.norm(dim=-1, keepdim=True))
        made = [
            Change("add", layer, strength * float(scale[n]) * way[n])
            for way in ways
            for n, layer in enumerate(self.layers)
            for strength in self.strengths
        ]
        towards = unit(directions)
        return made + [
            Change("remove", layer, towards[n], everywhere=ablation == "everywhere")
            for ablation in self.ablations
            for n, layer in enumerate(self.layers)
        ]


def steer(
    model: Any,
    tell: Tell,
    prompts: Sequence[Sequence[int]],
    direction: Mapping[int, torch.Tensor] | tuple[Sequence[Sequence[int]], Sequence[Sequence[int]]],
    asked: Steering,
    answers: Sequence[tuple[int, int] | None],
    metric: Callable[[torch.Tensor], torch.Tensor] | None,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Steer each prompt.

    Args:
        direction: by layer; or prompts that have something and prompts that do not, and the direction is the
            difference of their mean activations at the last position.
        answers: for each prompt, right and wrong token.
        limits: ``layers``, ``batch_tokens`` and ``batch_bytes`` of a sweep's plan.

    Returns:
        For each prompt ``values`` (cells, metrics + top ids + top probabilities), ``changed`` (the same, unsteered) and
        ``written`` (texts, tokens); ``directions`` (layers, width), ``norms`` (layers),
        ``facts``, ``batches``, ``seconds``.
    """
    began, decoder = time.perf_counter(), Decoder(model, limits["layers"])
    directions = _directions(model, decoder, asked, direction)
    sizes = norms(model, decoder, prompts, asked.site, asked.layers)
    scale = sizes if asked.relative else torch.ones(len(asked.layers))
    made = asked.changes(directions, scale)
    found: dict[str, Any] = {"values": [], "changed": [], "written": [], "batches": 0}
    tell([], torch.zeros(0, 0), base={len(prompts): {"directions": directions, "norms": sizes}})
    count, done = len(made), 0
    for number, (ids, answer) in enumerate(zip(prompts, answers, strict=True)):
        positions = None if asked.positions is None else [place % len(ids) for place in asked.positions]
        changes = Changes(decoder, asked.site, made, positions)
        work = _Steered(Metrics(answer, metric), ids, asked.top)
        told = shifted(tell, done, number, work.known)
        swept = changes.run(model, told, ids, work.measure, work.prepare, limits)
        found["values"].append(swept["values"][:, 0])
        found["changed"].append(swept["base"][0])
        found["batches"] += swept["batches"]
        done += count
        if asked.tokens:
            found["written"].append(_written(model, ids, changes, asked, shifted(tell, done, number, work.known)))
            tell([], torch.zeros(0, 0), base={number: {"written": found["written"][-1]}})
            done += count
    seconds = time.perf_counter() - began
    return {**found, "directions": directions, "norms": sizes, "facts": facts(model), "seconds": seconds}


def _directions(model: Any, decoder: Decoder, asked: Steering, given: Any) -> torch.Tensor:
    """(layers, width), in 32 bits."""
    if isinstance(given, Mapping):
        return torch.stack([given[layer].float() for layer in asked.layers])
    having, lacking = (
        read(model, decoder, prompts, asked.site, asked.layers, [-1])[:, :, 0].double().mean(1) for prompts in given
    )
    return (having - lacking).float()


class _Steered:
    """What is measured of one prompt."""

    def __init__(self, metrics: Metrics, ids: Sequence[int], top: int) -> None:
        self._metrics, self._ids, self._top = metrics, list(ids), top
        self._changed = torch.empty(0)

    def known(self) -> dict[str, torch.Tensor]:
        """What the prompt says unsteered."""
        return {"changed": self._changed}

    def prepare(self, model: Any) -> None:
        """KL is taken from what the model says unsteered."""
        with model.trace(torch.tensor([self._ids]), use_cache=False):
            said = model.output.logits[:, -1]
        self._metrics.refer(said)

    def measure(self, model: Any, batch: Batch) -> torch.Tensor:
        """Metrics, and the most probable tokens with their probabilities, side by side."""
        logits = model.output.logits[:, -1].float()
        best = logits.softmax(-1).topk(self._top, -1)
        values = torch.cat([self._metrics.of(logits), best.indices.double(), best.values.double()], -1)
        if batch.layer < 0:
            self._changed = values[0].detach().cpu()
        return values


def _written(model: Any, ids: Sequence[int], changes: Changes, asked: Steering, tell: Tell) -> torch.Tensor:
    """Tokens of all texts, (texts, tokens)."""
    numbers = asked.texts()
    size = max(1, 512 // len(ids))
    parts = []
    for first in range(0, len(numbers), size):
        some = numbers[first : first + size]
        parts.append(write(model, ids, changes, some, asked.tokens, asked.positions is None))
        told = [number for number in some if number is not None]
        tell(told, torch.zeros(len(told), 0))
    return torch.cat(parts)
