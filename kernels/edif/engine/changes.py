"""Changes of a layer's activations along a direction: add to it, take it out, or put another run's in its place.

Used by :mod:`edif.engine.directions` and :mod:`edif.engine.probes`; a cell of their sweeps holds the number of its
change in its ``site``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from edif.engine.decoder import Decoder
from edif.engine.sweeps import Batch, Cell, Plan, Tell, run

#: What is done to an activation h with a vector v, and for ``swap`` the activation g of another run.
KINDS = (
    "add",  # h + v
    "remove",  # h − (h·v) v, v of length 1 or 0
    "swap",  # h + s ((g − h)·v) v: the part along v as in another run, s times
    "put",  # g
)


class Change:
    """One change.

    Args:
        kind: of :data:`KINDS`.
        layer: where.
        vector: (width).
        everywhere: in all layers instead.
        source: another run's activation, (positions of the change, width).
        strength: of a swap.
    """

    def __init__(
        self,
        kind: str,
        layer: int,
        vector: torch.Tensor,
        everywhere: bool = False,
        source: torch.Tensor | None = None,
        strength: float = 1.0,
    ) -> None:
        self.kind, self.layer, self.vector, self.everywhere = kind, layer, vector, everywhere
        self.source, self.strength = source, strength

    @property
    def is_none(self) -> bool:
        """Whether it leaves everything as it is: strength 0, or a direction of nothing."""
        return self.kind == "add" and not bool(self.vector.any())

    def of(self, state: torch.Tensor) -> torch.Tensor:
        """The activations (rows, positions, width) as they are after it."""
        vector = self.vector.to(state)
        if self.kind == "add":
            return state + vector
        if self.kind == "remove":
            return state - (state @ vector)[..., None] * vector
        source = torch.empty(0) if self.source is None else self.source.to(state)
        if self.kind == "swap":
            return state + self.strength * ((source - state) @ vector)[..., None] * vector
        return source.expand_as(state)


class Changes:
    """Changes at one site and some positions, in rows of their own.

    Args:
        positions: of the prompt; None for every position, also of what is written after it.
    """

    def __init__(self, decoder: Decoder, site: str, changes: Sequence[Change], positions: Sequence[int] | None) -> None:
        self._decoder, self._site, self._changes = decoder, site, list(changes)
        self._positions = None if positions is None else sorted(positions)

    def cells(self) -> list[Cell]:
        """A cell for each change."""
        start = self._positions[0] if self._positions else 0
        return [
            Cell(0 if change.everywhere else change.layer, start, str(number))
            for number, change in enumerate(self._changes)
        ]

    def run(
        self,
        model: Any,
        tell: Tell,
        ids: Sequence[int],
        measure: Callable[[Any, Batch], Any],
        prepare: Callable[[Any], Any] | None,
        limits: dict[str, Any],
    ) -> dict[str, Any]:
        """A sweep over all changes of one prompt, in their order; arguments and result as in :mod:`edif.engine.sweeps`.

        A change that is none is the unchanged run itself: computed again in a batch it would differ in its last digits.
        """
        cells, tokens = self.cells(), torch.tensor([list(ids)])
        made = [number for number, change in enumerate(self._changes) if not change.is_none]
        plan = Plan([cells[n] for n in made], self.edit, measure, prepare, None, logits_to_keep=1, **limits)
        swept = run(model, lambda places, values: tell([made[place] for place in places], values), tokens, plan)
        values = swept["base"].expand(len(cells), *swept["base"].shape).clone()
        values[made] = swept["values"]
        if none := sorted(set(range(len(cells))) - set(made)):
            tell(none, values[none])
        return {**swept, "values": values}

    def edit(self, model: Any, batch: Batch) -> None:
        """For a sweep: make the change of each cell in its rows."""
        self.make([(rows, int(cell.site)) for rows, cell in batch], batch.start)

    def make(self, wanted: Sequence[tuple[slice, int]], start: int) -> None:
        """Inside a trace that begins at position ``start``: make changes, by number, in some rows, layer by layer."""
        for layer in range(len(self._decoder.layers)):
            here = [(rows, change) for rows, change in self._of(wanted) if change.everywhere or change.layer == layer]
            if here:
                place = self._decoder.read(self._site, layer)
                at = self._at(start)
                for rows, change in here:
                    place[rows, at] = change.of(place[rows, at])

    def _of(self, wanted: Sequence[tuple[slice, int]]) -> Iterator[tuple[slice, Change]]:
        for rows, number in wanted:
            yield rows, self._changes[number]

    def _at(self, start: int) -> Any:
        if self._positions is None:
            return slice(None)
        return [position - start for position in self._positions]
