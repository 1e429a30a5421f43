"""What :func:`edif.sweep` does beside the weights: one base run, then batches of cells over it.

Everything is done in plain nnsight traces:

- layers below a cell's are not computed again: they are skipped, with the base run's hidden states in their place;
- neither are positions before the first one that a batch changes, where the model keeps an ordinary key-value cache;
- cells of one layer share a forward pass, as many as the token budget and the memory allow.
"""

from __future__ import annotations

import base64
import inspect
import json
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import nnsight
import torch
from transformers.cache_utils import DynamicCache, DynamicLayer

from edif.engine.decoder import Paths, layers_of

#: Tokens of a forward pass beyond which a batch is not faster any more, by trial on a CPU; on a GPU by estimate.
CPU_TOKENS, GPU_TOKENS = 512, 16_384
#: Tokens of the first forward pass over the base run: a small one, for somebody waits for the first values.
FIRST_TOKENS = 96
#: Most memory of a forward pass, by estimate, where a user says nothing else.
BATCH_BYTES = 1 << 30
#: How often the client is told, and of how many numbers at most: a job's printed lines are limited.
TELL_EVERY_S, TELL_NUMBERS = 0.3, 65_536
#: Numbers of a message about cells, and characters of a line, which the server cuts off at 16,384.
_LINE_NUMBERS, _LINE_CHARACTERS = 1024, 12_000
#: What is known beside cells may take so much of what a job may print.
BASE_CHARACTERS = 250_000


class Cell:
    """One intervention of a sweep.

    Args:
        layer: first layer that it touches; layers below are taken from the base run.
        position: first token position that it touches; positions before are taken from the base run.
        site: what is changed there, for the user's ``edit``.
        head: attention head, where one is meant.
        last: last layer that it touches, where it touches several.
    """

    def __init__(
        self, layer: int, position: int = 0, site: str = "", head: int | None = None, last: int | None = None
    ) -> None:
        self.layer, self.position, self.site, self.head, self.last = layer, position, site, head, last

    def __repr__(self) -> str:
        said = [f"{name}={value!r}" for name, value in vars(self).items() if value not in ("", None)]
        return f"Cell({', '.join(said)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self).values()))


class Batch:
    """Some cells of one layer that share a forward pass; each has one row for each prompt of the base.

    Iterating gives pairs ``(rows, cell)``: the slice of the batch dimension that belongs to the cell, and the cell.

    Args:
        layer: of all its cells; -1 for the base run, which has no cells.
        start: first position that is computed: position ``p`` of the prompt is index ``p - start``.
        prompts: rows of each cell.
        given: what ``prepare`` returned.
    """

    def __init__(self, layer: int, start: int, prompts: int, cells: Sequence[Cell], given: Any) -> None:
        self.layer, self.start, self.prompts, self.cells, self.given = layer, start, prompts, tuple(cells), given

    def __iter__(self) -> Iterator[tuple[slice, Cell]]:
        for place, cell in enumerate(self.cells):
            yield slice(place * self.prompts, (place + 1) * self.prompts), cell

    def at(self, position: int) -> int:
        """Index of the prompt's ``position`` in this batch's tensors."""
        if position < self.start:
            raise IndexError(f"Position {position} is before {self.start}, the first position of this batch's cells.")
        return position - self.start


class Plan:
    """What a sweep computes, and within what; see :func:`edif.sweep`.

    Args:
        batch_tokens: most tokens of a forward pass; None: by the device.
        batch_bytes: most memory of a forward pass, by estimate.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        edit: Callable[[Any, Batch], None],
        measure: Callable[[Any, Batch], Any],
        prepare: Callable[[Any], Any] | None,
        base: Callable[[Any], None] | None,
        layers: Paths,
        logits_to_keep: int,
        batch_tokens: int | None,
        batch_bytes: int,
    ) -> None:
        self.cells, self.edit, self.measure, self.prepare, self.base = tuple(cells), edit, measure, prepare, base
        self.layers, self.logits_to_keep = layers, logits_to_keep
        self.batch_tokens, self.batch_bytes = batch_tokens, batch_bytes


#: Of pairs, facts or prompts by number: what their cells are compared with, and what else is known of them.
Base = dict[int, dict[str, torch.Tensor]]

#: Told every now and then: places of cells in the plan, their values (cells, prompts, …) unless they are many, and
#: ``base=``, what has become known beside them.
Tell = Callable[..., None]


def run(model: Any, tell: Tell, ids: torch.Tensor, plan: Plan) -> dict[str, Any]:
    """Run the sweep; to be called inside ``with model.session(…)``.

    Args:
        tell: told of cells as they are done.
        ids: token ids (prompts, positions).

    Returns:
        ``values`` (cells, prompts, …) in the plan's order, ``base`` (prompts, …), ``batches``, ``seconds``.
    """
    began = time.perf_counter()
    work = _UnchangedRun(model, ids, plan)
    values: torch.Tensor | None = None
    batches = 0
    untold: list[int] = []
    told_at = began
    waiting = sorted(range(len(plan.cells)), key=lambda place: (plan.cells[place].layer, plan.cells[place].position))
    most = len(waiting)
    while waiting:
        places = work.next_batch(waiting, most, is_first=not batches)
        try:
            found = work.measure([plan.cells[place] for place in places])
        except (MemoryError, RuntimeError) as error:
            if len(places) == 1 or not _out_of_memory(error):
                raise
            most = len(places) // 2
            continue
        if values is None:
            values = found.new_empty((len(plan.cells), *found.shape[1:]))
        values[places] = found
        batches += 1
        waiting = waiting[len(places) :]
        untold += places
        if batches == 1 or not waiting or time.perf_counter() - told_at > TELL_EVERY_S:
            tell(untold, values[untold] if values.numel() <= TELL_NUMBERS else values[untold, :0])
            untold, told_at = [], time.perf_counter()
    if values is None:
        values = work.measured.new_empty((0, *work.measured.shape))
    return {"values": values, "base": work.measured, "batches": batches, "seconds": time.perf_counter() - began}


class _UnchangedRun:
    """The base run, computed once: hidden states after every layer, keys and values, and what is measured."""

    def __init__(self, model: Any, ids: torch.Tensor, plan: Plan) -> None:
        self._model, self._ids, self._plan = model, ids, plan
        self._blocks = layers_of(model, plan.layers)
        beyond = [cell.layer for cell in plan.cells if not 0 <= cell.layer < len(self._blocks)]
        if beyond:
            raise IndexError(f"There is no layer {beyond[0]}: the model has layers 0 to {len(self._blocks) - 1}.")
        self._few = last_logits(model, plan.logits_to_keep)
        given = plan.prepare(model) if plan.prepare else None
        blocks, base, measure = self._blocks, plan.base, plan.measure
        whole = Batch(-1, 0, len(ids), [], given)
        with model.trace(ids, use_cache=True, **self._few):
            if base is not None:
                base(model)
            entry = blocks[0].input
            states = [block.output for block in blocks]
            measured = measure(model, whole)
            cache = getattr(model.output, "past_key_values", None)
        self._given = given
        self._entry, self._states = entry, states
        self.measured = _checked(measured, len(ids))
        self._cache = cache if plan.logits_to_keep and _ordinary(cache) else None

    def next_batch(self, waiting: list[int], most: int, is_first: bool) -> list[int]:
        """The first of the waiting cells that share a layer, as many as fit."""
        cells, (prompts, length) = self._plan.cells, self._ids.shape
        first = cells[waiting[0]]
        tokens = (length - self._start(first)) * prompts
        by_itself = FIRST_TOKENS if is_first else self._device_tokens()
        room = min(self._plan.batch_tokens or by_itself, self._plan.batch_bytes // self._token_bytes())
        return [place for place in waiting[: max(1, min(most, room // tokens))] if cells[place].layer == first.layer]

    def measure(self, cells: list[Cell]) -> torch.Tensor:
        """One forward pass for cells of one layer; values (cells, prompts, …)."""
        batch = Batch(cells[0].layer, min(map(self._start, cells)), len(self._ids), cells, self._given)
        model, blocks, edit, measure = self._model, self._blocks, self._plan.edit, self._plan.measure
        ids = self._ids[:, batch.start :].repeat(len(cells), 1)
        mask = torch.ones((len(ids), self._ids.shape[1]), dtype=torch.long, device=ids.device)
        past = self._past(batch)
        layer = batch.layer
        before = self._rows(self._states[layer - 1] if layer else self._entry, batch)
        kept = {"past_key_values": past} if past is not None else {}
        with model.trace(ids, attention_mask=mask, use_cache=past is not None, **kept, **self._few):
            if layer:
                for block in blocks[:layer]:
                    block.skip(before)
            else:
                blocks[0].input = before
            edit(model, batch)
            found = measure(model, batch)
        return _checked(found, len(ids)).unflatten(0, (len(cells), batch.prompts))

    def _start(self, cell: Cell) -> int:
        return cell.position if self._cache is not None else 0

    def _rows(self, states: Any, batch: Batch) -> Any:
        """The base run's ``states`` (prompts, positions, width) for every row of the batch."""
        if isinstance(states, torch.Tensor):
            return states[:, batch.start :].repeat(len(batch.cells), 1, 1)
        return (self._rows(states[0], batch), *states[1:])

    def _past(self, batch: Batch) -> DynamicCache | None:
        """Keys and values of the positions before the batch's, for every row."""
        if not batch.start or self._cache is None:
            return None
        past = DynamicCache()
        for index, layer in enumerate(self._cache.layers):
            times = len(batch.cells) if index >= batch.layer else 1  # of a skipped layer only the length is looked at
            kept = (part[:, :, : batch.start].repeat(times, 1, 1, 1) for part in (layer.keys, layer.values))
            past.update(*kept, index)
        return past

    def _token_bytes(self) -> int:
        """Most memory that one token of a batch needs, roughly: hidden states, MLP, attention row, keys and values."""
        config = self._model._module.config.get_text_config()
        width = config.hidden_size
        inner = getattr(config, "intermediate_size", None) or 4 * width
        heads, layers, length = config.num_attention_heads, len(self._blocks), self._ids.shape[1]
        numbers = 12 * width + 4 * inner + 3 * heads * length + 2 * layers * width
        logits = 3 * self._plan.logits_to_keep * config.vocab_size / length if self._few else 3 * config.vocab_size
        return int((numbers + logits) * torch.finfo(self._model._module.dtype).bits / 8)

    def _device_tokens(self) -> int:
        return CPU_TOKENS if self._model._module.device.type == "cpu" else GPU_TOKENS


def last_logits(model: Any, count: int = 1) -> dict[str, int]:
    """What a trace is asked with, so that only so many last positions get logits; nothing where a family cannot."""
    known = inspect.signature(model._module.forward).parameters
    return {"logits_to_keep": count} if "logits_to_keep" in known else {}


def _ordinary(cache: Any) -> bool:
    """Whether keys and values of every earlier position are all that a layer remembers."""
    return type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)


def _checked(values: Any, rows: int) -> torch.Tensor:
    found = torch.as_tensor(values).detach().cpu()
    if not found.dim() or len(found) != rows:
        raise ValueError(
            f"measure must return one value (or array) for each row: {rows} rows, got shape {tuple(found.shape)}."
        )
    return found.clone()


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def facts(model: Any) -> dict[str, str]:
    """What only the side of the weights knows: for the provenance of a result."""
    module = model._module
    return {
        "dtype": str(module.dtype).removeprefix("torch."),
        "device": module.device.type,
        "attention": str(module.config._attn_implementation),
        "torch": torch.__version__,
        "transformers": version("transformers"),  # the module that a job brings has no version
        "nnsight": nnsight.__version__,
    }


class TellByLine:
    """Prints lines that :mod:`edif.beside` understands; each thing that is known beside cells once."""

    def __init__(self) -> None:
        self._told: set[tuple[int, str]] = set()
        self._room = BASE_CHARACTERS

    def __call__(self, places: Sequence[int], values: torch.Tensor, base: Base | None = None) -> None:
        """See :data:`Tell`."""
        for number, known in (base or {}).items():
            new = {name: _packed(value) for name, value in known.items() if (number, name) not in self._told}
            message = json.dumps({"base": {number: new}})
            self._told |= {(number, name) for name in new}
            if new and len(message) <= self._room:
                self._room -= len(message)
                _print(message)
        piece = max(1, _LINE_NUMBERS // max(1, values[:1].numel()))
        for first in range(0, len(places), piece):
            some = slice(first, first + piece)
            _print(json.dumps({"places": list(places[some]), "values": _packed(values[some])}))


def _packed(values: torch.Tensor) -> dict[str, Any]:
    held = values.detach().cpu().contiguous().numpy()
    return {
        "shape": list(held.shape),
        "dtype": str(held.dtype),
        "values": base64.b64encode(held.tobytes()).decode(),
    }


def _print(message: str) -> None:
    """One message, in as many lines as it needs: of a longer line the rest would be cut off."""
    pieces = [message[first : first + _LINE_CHARACTERS] for first in range(0, len(message), _LINE_CHARACTERS)]
    for number, piece in enumerate(pieces, 1):
        print(json.dumps({"edif.sweep": [number, len(pieces), piece]}), flush=True)
