"""What activation patching and causal tracing do beside the weights: put activations of one run into another.

Called by :mod:`edif.patching` and :mod:`edif.causal_trace` through :func:`edif.beside.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from edif.engine.decoder import SITES, Decoder
from edif.engine.metrics import Metrics
from edif.engine.sweeps import Batch, Cell, Plan, Tell, facts, run


class Pair:
    """One run that is changed and one that its new activations come from.

    Args:
        ids: tokens of the run that is changed (positions).
        source: tokens of the run that activations are taken from (positions).
        clean: tokens of the clean run, one of the two; KL is taken from its distribution.
        positions: for each position of ``ids`` that has a counterpart, that position of ``source``.
        right: token that the clean prompt asks for.
        wrong: token that the corrupt prompt asks for.
    """

    def __init__(
        self,
        ids: Sequence[int],
        source: Sequence[int],
        clean: Sequence[int],
        positions: dict[int, int],
        right: int,
        wrong: int,
    ) -> None:
        self.ids, self.source, self.clean = list(ids), list(source), list(clean)
        self.positions, self.right, self.wrong = positions, right, wrong


def patching(
    model: Any,
    tell: Tell,
    pairs: Sequence[Pair],
    cells: Sequence[Sequence[Cell]],
    everywhere: bool,
    metric: Callable[[torch.Tensor], torch.Tensor] | None,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Patch each pair's cells.

    Args:
        cells: for each pair; a cell's position is one of ``pair.ids``.
        everywhere: a cell is patched at its position and at all later ones that have a counterpart.
        metric: of logits (rows, vocabulary), a value for each row.
        limits: ``layers``, ``batch_tokens`` and ``batch_bytes`` of a sweep's plan.

    Returns:
        For each pair ``values`` (cells, metrics), ``changed`` and ``source`` (metrics), which are the run with nothing
        patched and the run that activations were taken from; and ``facts``, ``batches``, ``seconds``.
    """
    decoder = Decoder(model, limits["layers"])
    found: dict[str, Any] = {"values": [], "changed": [], "source": [], "batches": 0, "seconds": 0.0}
    before = 0
    for pair, wanted in zip(pairs, cells, strict=True):
        work = Patching(decoder, pair, everywhere, metric, {cell.site for cell in wanted})
        plan = Plan(wanted, work.edit, work.measure, work.prepare, None, logits_to_keep=1, **limits)
        told = shifted(tell, before, len(found["values"]), work.known)
        swept = run(model, told, torch.tensor([pair.ids]), plan)
        before += len(wanted)
        found["values"].append(swept["values"][:, 0])
        found["changed"].append(swept["base"][0])
        found["source"].append(work.source)
        found["batches"] += swept["batches"]
        found["seconds"] += swept["seconds"]
    return {**found, "facts": facts(model)}


def pattern_outputs(
    model: Any, decoder: Decoder, source: Sequence[int], changed: Sequence[int]
) -> dict[int, torch.Tensor]:
    """What every head gives with the source run's pattern and the changed run's own values.

    Patching a pattern changes nothing before it, so those values are those of the unchanged run.

    Returns:
        By layer, (1, positions, heads, head width).
    """
    layers = range(len(decoder.layers))
    with decoder.eager(), model.trace(torch.tensor([list(source)]), use_cache=False):
        patterns = [decoder.pattern(layer) for layer in layers]
    with model.trace(torch.tensor([list(changed)]), use_cache=False):
        values = [decoder.read("v", layer).clone() for layer in layers]
    return {
        layer: torch.einsum("bhqk,bkhd->bqhd", patterns[layer], decoder.of_heads(values[layer])) for layer in layers
    }


class Patching:
    """The sweep of one pair."""

    def __init__(
        self,
        decoder: Decoder,
        pair: Pair,
        everywhere: bool,
        metric: Callable[[torch.Tensor], torch.Tensor] | None,
        sites: set[str],
    ) -> None:
        self._decoder, self._pair, self._everywhere = decoder, pair, everywhere
        self._metrics = Metrics((pair.right, pair.wrong), metric)
        self._sites = [site for site in SITES if site in sites]
        self.source = torch.empty(0)
        self._changed = torch.empty(0)

    def prepare(self, model: Any) -> dict[tuple[str, int], torch.Tensor]:
        """Activations of the source run at every site and layer."""
        decoder, sites, layers = self._decoder, self._sites, range(len(self._decoder.layers))
        source, clean = torch.tensor([self._pair.source]), torch.tensor([self._pair.clean])
        read = [site for site in sites if site != "pattern"]
        with model.trace(source):
            states = {(site, layer): decoder.read(site, layer).clone() for layer in layers for site in read}
            logits = model.output.logits[:, -1]
        if "pattern" in sites:
            made = pattern_outputs(model, decoder, self._pair.source, self._pair.ids)
            states |= {("pattern", layer): value for layer, value in made.items()}
        if self._pair.clean == self._pair.source:
            kept = logits
        else:
            with model.trace(clean):
                kept = model.output.logits[:, -1]
        self._metrics.refer(kept)
        self.source = self._metrics.of(logits)[0].detach().cpu()
        return states

    def edit(self, model: Any, batch: Batch) -> None:
        """Put the source's activations into each cell's rows."""
        counterpart = self._pair.positions
        for site in self._sites:
            for rows, cell in batch:
                if cell.site != site:
                    continue
                state = batch.given[site, cell.layer]
                reached = [p for p in counterpart if p >= cell.position] if self._everywhere else [cell.position]
                for position in reached:
                    value = state[:, counterpart[position]]
                    value = value if cell.head is None else value[:, cell.head]
                    self._decoder.write(site, cell.layer, rows, batch.at(position), value, cell.head)

    def measure(self, model: Any, batch: Batch) -> torch.Tensor:
        """All metrics of each row."""
        values = self._metrics.of(model.output.logits[:, -1])
        if batch.layer < 0:
            self._changed = values[0].detach().cpu()
        return values

    def known(self) -> dict[str, torch.Tensor]:
        """Metrics of the run with nothing patched and of the one that activations come from."""
        return {"changed": self._changed, "source": self.source}


#: What causal tracing restores: one block's output, a window of MLP or attention outputs, or one block's output with
#: the MLPs (attentions) of later layers held at what they gave in the corrupted run.
KINDS = ("state", "mlp", "attention", "state_no_mlp", "state_no_attention")
_SITE = {"state": "residual", "mlp": "mlp", "attention": "attention"}


class Fact:
    """A prompt with a subject, and the answer that is looked at.

    Args:
        ids: tokens (positions).
        subject: first position of the subject, and the one after its last.
        answer: token; None for what the clean run says.
        corrupt: tokens of a prompt with another subject, of the same length, instead of noise.
    """

    def __init__(
        self, ids: Sequence[int], subject: tuple[int, int], answer: int | None, corrupt: Sequence[int] | None
    ) -> None:
        self.ids, self.subject, self.answer = list(ids), subject, answer
        self.corrupt = None if corrupt is None else list(corrupt)


def causal_trace(
    model: Any,
    tell: Tell,
    facts_asked: Sequence[Fact],
    cells: Sequence[Sequence[Cell]],
    noise: float,
    level: float | None,
    samples: int,
    seed: int,
    limits: dict[str, Any],
) -> dict[str, Any]:
    """Corrupt each fact's subject, then restore one cell at a time.

    Args:
        cells: for each fact; ``site`` is one of :data:`KINDS`, ``layer`` and ``last`` are the first and the last layer
            that are restored.
        noise: standard deviation of the noise in units of that of the subjects' embeddings, over all facts.
        level: standard deviation of the noise itself, where it is given.

    Returns:
        For each fact ``values`` (cells, samples), ``corrupted`` (samples), ``clean`` and ``answer``; and ``level``,
        ``facts``, ``batches``, ``seconds``.
    """
    decoder = Decoder(model, limits["layers"])
    if level is None:
        level = noise * spread(decoder, facts_asked)
    found: dict[str, Any] = {"values": [], "corrupted": [], "clean": [], "answer": [], "batches": 0, "seconds": 0.0}
    before = 0
    for fact, wanted in zip(facts_asked, cells, strict=True):
        work = _Tracing(decoder, fact, level, samples, seed, {cell.site for cell in wanted})
        base = None if fact.corrupt else work.corrupt
        plan = Plan(wanted, work.edit, work.measure, work.prepare, base, logits_to_keep=1, **limits)
        told = shifted(tell, before, len(found["values"]), work.known)
        swept = run(model, told, torch.tensor([fact.corrupt or fact.ids] * work.rows), plan)
        before += len(wanted)
        found["values"].append(swept["values"])
        found["corrupted"].append(swept["base"])
        found["clean"].append(work.clean)
        found["answer"].append(work.answer)
        found["batches"] += swept["batches"]
        found["seconds"] += swept["seconds"]
    return {**found, "level": level, "facts": facts(model)}


class _Tracing:
    """The sweep of one fact."""

    def __init__(self, decoder: Decoder, fact: Fact, level: float, samples: int, seed: int, kinds: set[str]) -> None:
        self._decoder, self._fact, self._kinds = decoder, fact, kinds
        self.rows = 1 if fact.corrupt else samples
        first, end = fact.subject
        generator = torch.Generator().manual_seed(seed)
        self._level = level
        self._noise = torch.randn(self.rows, end - first, decoder.width, generator=generator) * level
        self.answer = -1
        self.clean = 0.0
        self._corrupted = torch.empty(0)

    def corrupt(self, model: Any) -> None:
        """Add noise to the subject's embeddings, another one in each row."""
        first, end = self._fact.subject
        embedded = self._decoder.embedding.output
        embedded[:, first:end] += self._noise.to(embedded)

    def prepare(self, model: Any) -> dict[str, Any]:
        """Activations of the clean run, and of the corrupted run where a kind holds parts of it."""
        decoder, layers = self._decoder, range(len(self._decoder.layers))
        ids = torch.tensor([self._fact.ids])
        with model.trace(ids):
            clean = {(s, n): decoder.read(s, n).clone() for n in layers for s in ("attention", "mlp", "residual")}
            logits = model.output.logits[0, -1]
        spoken = logits.float().softmax(-1)
        self.answer = int(spoken.argmax()) if self._fact.answer is None else self._fact.answer
        self.clean = float(spoken[self.answer])
        held = {}
        if any("_no_" in kind for kind in self._kinds):
            corrupted = torch.tensor([self._fact.corrupt or self._fact.ids] * self.rows)
            with model.trace(corrupted):
                if not self._fact.corrupt:
                    self.corrupt(model)
                held = {(s, n): decoder.read(s, n).clone() for n in layers for s in ("attention", "mlp")}
        return {"clean": clean, "held": held}

    def edit(self, model: Any, batch: Batch) -> None:
        """Restore what each cell says, layer after layer in the order in which the model computes them."""
        last = len(self._decoder.layers)
        for layer in range(batch.layer, last):
            for site in ("attention", "mlp", "residual"):
                for rows, cell in batch:
                    source = self._restored(cell, site, layer)
                    if source:
                        value = batch.given[source][site, layer][:, cell.position]
                        self._decoder.write(site, layer, rows, batch.at(cell.position), value)

    def _restored(self, cell: Cell, site: str, layer: int) -> str:
        """From which run a cell's activation at a site is taken; empty where it is left as it comes."""
        if cell.site.startswith("state"):
            if site == "residual":
                return "clean" if layer == cell.layer else ""
            return "held" if layer > cell.layer and cell.site == f"state_no_{site}" else ""
        return "clean" if site == cell.site and cell.last is not None and layer <= cell.last else ""

    def measure(self, model: Any, batch: Batch) -> torch.Tensor:
        """Probability of the answer in each row."""
        probability: torch.Tensor = model.output.logits[:, -1].float().softmax(-1)[:, self.answer].to(torch.float64)
        if batch.layer < 0:
            self._corrupted = probability.detach().cpu()
        return probability

    def known(self) -> dict[str, torch.Tensor]:
        """The answer, its probability in the clean run and in each sample of the corrupted one, and the noise."""
        figures = torch.tensor([self.clean, self._level], dtype=torch.float64)
        return {"answer": torch.tensor(self.answer), "figures": figures, "corrupted": self._corrupted}


def spread(decoder: Decoder, asked: Sequence[Fact]) -> float:
    """Standard deviation of the embeddings of all subjects' tokens (Meng et al. 2022, appendix B.1)."""
    tokens = [fact.ids[slice(*fact.subject)] for fact in asked]
    weight = decoder.embedding._module.weight
    embedded = decoder.embedding._module(torch.tensor([id for part in tokens for id in part], device=weight.device))
    return float(embedded.float().std(correction=0))


def shifted(tell: Tell, by: int, number: int, known: Callable[[], dict[str, torch.Tensor]]) -> Tell:
    """Tell of cells by their number among those of all sweeps, with what those of this one are compared with."""
    return lambda places, values: tell([place + by for place in places], values, base={number: known()})
