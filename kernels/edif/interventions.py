"""Many interventions on one prompt as one job: ``edif.sweep(model, prompt, cells, edit, measure)``.

The methods of ``edif`` are sweeps; users write their own with it.  Runs in the user's process; the work is done by
:mod:`edif.engine.sweeps`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edif import beside
from edif.engine import sweeps
from edif.engine.sweeps import BATCH_BYTES, Batch, Cell, Plan
from edif.errors import EdifError


class SweepStopped(EdifError):
    """The sweep was interrupted or cancelled; :attr:`partial` holds what had been computed by then."""

    def __init__(self, partial: SweepResult) -> None:
        self.partial = partial
        super().__init__(
            f"The sweep was stopped after {partial.done} of {len(partial.cells)} cells. What it has is kept: `except "
            "edif.SweepStopped as stopped:` and `stopped.partial`, or `import sys; sys.last_value.partial`."
        )


@dataclass(frozen=True, slots=True, eq=False)
class SweepResult:
    """What was measured in every cell of a sweep."""

    cells: tuple[Cell, ...]
    values: NDArray[Any]  #: (cells, prompts, …); not-a-number in cells that were not computed
    base: NDArray[Any]  #: (prompts, …): the same measure with nothing changed; empty when stopped before the end
    done: int  #: cells that were computed
    batches: int
    seconds: float  #: on the server, all forward passes together; 0 when stopped before the end

    @property
    def complete(self) -> bool:
        """Whether every cell was computed."""
        return self.done == len(self.cells)

    def grid(self) -> NDArray[Any]:
        """Values by layer and position, mean over prompts: (layers, positions, …), not-a-number where no cell is.

        Layers and positions are those of the cells, from the lowest to the highest.

        Raises:
            ValueError: several cells have one layer and position (several sites or heads).
        """
        places = [(cell.layer, cell.position) for cell in self.cells]
        if len(set(places)) < len(places):
            raise ValueError("Several cells share a layer and a position: choose the cells of one site or head first.")
        lows = np.min(places, axis=0)
        rows, columns = np.max(places, axis=0) - lows + 1
        grid = np.full((rows, columns, *self.values.shape[2:]), np.nan)
        for (layer, position), value in zip(places, self.values, strict=True):
            grid[layer - lows[0], position - lows[1]] = value.mean(axis=0)
        return grid

    def __repr__(self) -> str:
        state = "" if self.complete else f", stopped after {self.done}"
        took = f"{self.seconds:.1f} s in {self.batches} batches"
        return f"<{len(self.cells)} cells{state}, values {self.values.shape}, {took}>"


def sweep(
    model: Any,
    prompt: str | Sequence[str] | Sequence[int] | torch.Tensor,
    cells: Iterable[Cell | tuple[int, int]],
    edit: Callable[[Any, Batch], None],
    measure: Callable[[Any, Batch], Any],
    *,
    prepare: Callable[[Any], Any] | None = None,
    base: Callable[[Any], None] | None = None,
    layers: str | None = None,
    logits_to_keep: int = 1,
    batch_tokens: int | None = None,
    batch_bytes: int = BATCH_BYTES,
    remote: bool | str | None = None,
    progress: bool = True,
) -> SweepResult:
    """Measure a model under many interventions on one prompt, in one job.

    Cells of one layer share forward passes; layers below a cell's, and positions before it, are taken from the base run
    instead of being computed again.  ``edit`` and ``measure`` run inside a trace, so they read and set
    ``.output`` and ``.input`` of modules, in the order in which the model computes them::

        def edit(model, batch):
            hidden = model.model.layers[batch.layer].output  # (rows, positions from batch.start on, width)
            for rows, cell in batch:
                hidden[rows, batch.at(cell.position)] = 0

        def measure(model, batch):
            return model.lm_head.output[:, -1, token]  # one value a row

    Args:
        prompt: a text, token ids, or several of equal length (as texts, or as ids of shape (prompts, positions)).
        cells: the interventions; ``(layer, position)`` stands for ``Cell(layer, position)``.
        edit: changes the activations of a batch's cells, each in its own rows.
        measure: one value or array for each row; reduce here, so that little has to be sent back.
        prepare: runs traces of its own beforehand and returns what ``edit`` needs as ``batch.given``, such as the
            activations of a clean run.
        base: an intervention on every row, before layer 0 (noise on the embeddings, say).
        layers: path of the list of layers, where it is at an unusual place.
        logits_to_keep: how many of the last positions get logits; 0 for all, and then all positions are computed.
        batch_tokens: most tokens of a forward pass; by default 512 on a CPU and 16,384 on a GPU.
        batch_bytes: most memory of a forward pass, by estimate; where memory runs out all the same it is halved.
        remote: where it runs, as in ``model.trace``; by default on the backend unless the weights are loaded here.
        progress: show a bar with the time that is left.

    Raises:
        SweepStopped: interrupted or cancelled; what was computed is in its ``partial``.
        ValueError: no cells, or prompts of different length.
        TraceFailed: ``edit``, ``measure`` or the model raised, on the server.
    """
    wanted = tuple(cell if isinstance(cell, Cell) else Cell(*cell) for cell in cells)
    if not wanted:
        raise ValueError("A sweep needs cells: for example [(layer, position) for layer in … for position in …].")
    ids = token_ids(model, prompt)
    beyond = [cell for cell in wanted if not 0 <= cell.position < ids.shape[1]]
    if beyond:
        raise ValueError(f"{beyond[0]} is outside the prompt, which has positions 0 to {ids.shape[1] - 1}.")
    plan = Plan(wanted, edit, measure, prepare, base, layers, logits_to_keep, batch_tokens, batch_bytes)
    work = functools.partial(sweeps.run, ids=ids, plan=plan)
    try:
        found = beside.run(model, work, len(wanted), remote=remote, progress=progress, what="sweep")
    except beside.Stopped as stopped:
        told = stopped.told
        partial = SweepResult(
            wanted, told.values(0, len(wanted)), np.empty(0), int(told.known.sum()), told.batches, 0.0
        )
        raise SweepStopped(partial) from None
    values, measured = (found[name].numpy() for name in ("values", "base"))
    return SweepResult(wanted, values, measured, len(wanted), found["batches"], found["seconds"])


def token_ids(model: Any, prompt: Any) -> torch.Tensor:
    """Token ids (prompts, positions) of a text, of texts of equal length, or of ids.

    Raises:
        ValueError: no token, or prompts of different length.
    """
    texts = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(texts, torch.Tensor):
        ids = texts
    elif len(texts) and isinstance(texts[0], str):
        rows = model.tokenizer(list(texts)).input_ids
        lengths = sorted({len(row) for row in rows})
        if len(lengths) > 1:
            raise ValueError(
                f"The prompts have {' and '.join(map(str, lengths))} tokens; a sweep needs prompts of equal length, so "
                "that a position means the same in all. Reword them, or sweep one at a time."
            )
        ids = torch.tensor(rows)
    else:
        ids = torch.as_tensor(texts)
    ids = ids[None] if ids.dim() == 1 else ids
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(
            f"Token ids of shape {tuple(ids.shape)}: expected (positions) or (prompts, positions), not empty."
        )
    return ids
