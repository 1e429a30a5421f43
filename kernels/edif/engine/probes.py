"""What ``edif.probe`` does beside the weights: fit probes in every layer and position, and follow their directions.

Called by :mod:`edif.probing` through :func:`edif.beside.run`.  Activations stay here; what goes back are predictions,
directions and the logits of the answers.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Sequence
from typing import Any

import torch

from edif.engine.changes import Change, Changes
from edif.engine.decoder import Decoder
from edif.engine.linear import fit
from edif.engine.states import norms, read, unit
from edif.engine.sweeps import BASE_CHARACTERS, Batch, Tell, facts

#: Numbers of directions that are told while a job runs: half of what there is room for.
MOST_TOLD = BASE_CHARACTERS // 2 * 3 // 16


class Probing:
    """What is asked.

    Args:
        labels: class of each prompt, from 0 on.
        fold: of each prompt, in cross-validation.
        shuffles: how often labels are shuffled for the control.
        penalty: see :func:`edif.engine.linear.fit`.
        answers: the token of each class, for effects; or none.
        cases: places of the prompts whose effects are computed.
        sources: for each case and class, the place of a prompt of that class.
        strengths: of steering, in norms of the layer's activations.
    """

    def __init__(
        self,
        site: str,
        layers: Sequence[int],
        positions: Sequence[int],
        labels: Sequence[int],
        fold: Sequence[int],
        shuffles: int,
        penalty: float,
        seed: int,
        answers: Sequence[int],
        cases: Sequence[int],
        sources: Sequence[Sequence[int]],
        strengths: Sequence[float],
    ) -> None:
        self.site, self.layers, self.positions = site, list(layers), list(positions)
        self.labels, self.fold, self.folds = list(labels), list(fold), max(fold) + 1
        self.shuffles, self.penalty, self.seed = shuffles, penalty, seed
        self.answers, self.cases, self.sources = list(answers), list(cases), [list(row) for row in sources]
        self.strengths = list(strengths)
        self.classes = max(labels) + 1
        #: Classes that directions point to: of two, the second; the first is the other way.
        self.towards = list(range(self.classes)) if self.classes > 2 else [1]

    def first(self, layers: int, cases: int) -> Probing:
        """The part with so many layers and cases, the first of each."""
        part = copy.copy(self)
        part.layers, part.cases, part.sources = self.layers[:layers], self.cases[:cases], self.sources[:cases]
        return part

    def each(self) -> int:
        """How many cells a case has at one layer and position and towards one class."""
        return len(self.strengths) + 2

    def count(self) -> int:
        """How many cells there are."""
        return len(self.cases) * len(self.layers) * len(self.positions) * len(self.towards) * self.each()


def probe(
    model: Any, tell: Tell, prompts: Sequence[Sequence[int]], asked: Probing, limits: dict[str, Any]
) -> dict[str, Any]:
    """Probe every layer and position.

    Returns:
        ``predicted`` (layers, positions, 1 + shuffles, prompts), the class that a probe says that has not seen the
        prompt; ``shuffled`` (1 + shuffles, prompts), the labels that it learnt; ``directions`` (layers, positions,
        towards, width), of probes that have seen all prompts; with answers ``values`` (cases, layers, positions,
        towards, each, answers), the answers' logits when steered at each strength, when the part along the direction
        is that of another prompt, and when the whole activation is; ``unchanged`` (cases, answers), ``norms`` (layers);
        and ``facts``, ``seconds``.
    """
    began, decoder = time.perf_counter(), Decoder(model, limits["layers"])
    states = read(model, decoder, prompts, asked.site, asked.layers, asked.positions)
    for n, layer in enumerate(asked.layers):
        if not bool(states[n].isfinite().all()):
            raise ValueError(
                f"Activations of layer {layer} are not finite, and nothing can be read from such: name other layers=…, "
                "or have the model loaded in another dtype."
            )
    learnt = _shuffled(asked)
    fold = torch.tensor(asked.fold)
    shape = (len(asked.layers), len(asked.positions))
    predicted = torch.empty(*shape, len(learnt), len(prompts), dtype=torch.long)
    directions = torch.empty(*shape, len(asked.towards), decoder.width)
    unseen = torch.empty(*shape, asked.folds, len(asked.towards), decoder.width)
    for n in range(shape[0]):
        for p in range(shape[1]):
            predicted[n, p], directions[n, p], unseen[n, p] = _one(states[n, :, p], learnt, fold, asked)
        tell([n], torch.zeros(1, 0), base={n: _told_of(predicted[n], directions, n, learnt)})
    found = {"predicted": predicted, "shuffled": learnt, "directions": directions}
    if asked.answers:
        found |= _Effects(model, decoder, prompts, states, unseen, fold, asked, limits).all(tell)
    return {**found, "facts": facts(model), "seconds": time.perf_counter() - began}


def _told_of(
    predicted: torch.Tensor, directions: torch.Tensor, layer: int, learnt: torch.Tensor
) -> dict[str, torch.Tensor]:
    """What is told of a layer that is done: small numbers, and directions only where there is room for all of them."""
    small = {"predicted": predicted.short(), **({} if layer else {"shuffled": learnt.short()})}
    return small if directions.numel() > MOST_TOLD else {**small, "direction": directions[layer]}


def _shuffled(asked: Probing) -> torch.Tensor:
    """The labels, and their shuffles: (1 + shuffles, prompts)."""
    labels, generator = torch.tensor(asked.labels), torch.Generator().manual_seed(asked.seed)
    drawn = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(asked.shuffles)]
    return torch.stack([labels, *drawn])


def _one(
    states: torch.Tensor, learnt: torch.Tensor, fold: torch.Tensor, asked: Probing
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One layer and position: what is predicted of unseen prompts, directions of all, and of all but each fold."""
    sets, towards = len(learnt), torch.tensor(asked.towards)
    columns = (learnt[..., None] == towards).permute(1, 0, 2).flatten(1)  # (prompts, sets · towards)
    predicted = torch.empty_like(learnt)
    unseen = torch.empty(asked.folds, len(towards), states.shape[1])
    for number in range(asked.folds):
        held = fold == number
        fitted = fit(states[~held], columns[~held], asked.penalty)
        scores = fitted.scores(states[held]).unflatten(1, (sets, len(towards)))
        said = scores.argmax(-1) if len(towards) > 1 else (scores[..., 0] > 0).long()
        predicted[:, held] = said.T
        unseen[number] = unit(fitted.weights[:, : len(towards)].T).float()
    whole = fit(states, columns[:, : len(towards)], asked.penalty)
    return predicted, unit(whole.weights.T).float(), unseen


class _Effects:
    """What moving a prompt's activation along a direction, or another prompt's in its place, does to the answers."""

    def __init__(
        self,
        model: Any,
        decoder: Decoder,
        prompts: Sequence[Sequence[int]],
        states: torch.Tensor,
        unseen: torch.Tensor,
        fold: torch.Tensor,
        asked: Probing,
        limits: dict[str, Any],
    ) -> None:
        self._model, self._decoder, self._prompts, self._states = model, decoder, prompts, states
        self._unseen, self._fold, self._asked, self._limits = unseen, fold, asked, limits
        self._norms = norms(model, decoder, prompts, asked.site, asked.layers)

    def all(self, tell: Tell) -> dict[str, torch.Tensor]:
        """Of every case; of whole ones is told what there is to know, for a job that is interrupted."""
        asked, answers = self._asked, torch.tensor(self._asked.answers)

        def measure(model: Any, batch: Batch) -> torch.Tensor:
            return model.output.logits[:, -1].float()[:, answers]

        values: list[torch.Tensor] = []
        unchanged: list[torch.Tensor] = []
        done, nothing = len(asked.layers), torch.zeros(0, 0)
        tell([], nothing, base={done: {"norms": self._norms}})
        for case in range(len(asked.cases)):
            ids = self._prompts[asked.cases[case]]
            parts = []
            for p, position in enumerate(asked.positions):
                changes = Changes(self._decoder, asked.site, self._changes(case, p), [position % len(ids)])
                told = functools.partial(_shifted, tell, done)
                swept = changes.run(self._model, told, ids, measure, None, self._limits)
                parts.append(swept["values"][:, 0].unflatten(0, (len(asked.layers), len(asked.towards), asked.each())))
                done += len(swept["values"])
            values.append(torch.stack(parts, 1))
            unchanged.append(swept["base"][0])
            told_of = {"values": values[-1], "unchanged": unchanged[-1]}
            tell([], nothing, base={len(asked.layers) + 1 + case: told_of})
        return {"values": torch.stack(values), "unchanged": torch.stack(unchanged), "norms": self._norms}

    def _changes(self, case: int, p: int) -> list[Change]:
        """Of one case and position: by layer, class and strength; then both interchanges."""
        asked, place = self._asked, self._asked.cases[case]
        made = []
        for n, layer in enumerate(asked.layers):
            for t, towards in enumerate(asked.towards):
                vector = self._unseen[n, p, int(self._fold[place]), t]
                source = self._states[n, asked.sources[case][towards], p : p + 1]
                made += [Change("add", layer, s * float(self._norms[n]) * vector) for s in asked.strengths]
                made += [Change("swap", layer, vector, source=source), Change("put", layer, vector, source=source)]
        return made


def _shifted(tell: Tell, before: int, places: Sequence[int], values: torch.Tensor) -> None:
    """Tell how far it is, without values: they are told of whole cases."""
    tell([before + place for place in places], values[:, :0])
