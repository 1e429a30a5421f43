"""When the models are looked after: at once where something is waited for that is not there, else a few times a second.

Asked by :mod:`~edif_backend.dispatch.dispatcher` on each of its turns, of which every job makes two.  Most turns only
hand out the next job, and looking after the models (files, nodes, memory, placement) costs more than that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from edif_backend.clock import Clock

#: How long models are left alone while jobs come and go and all that they wait for is there.
PAUSE_S = 0.25


class Tended(Protocol):
    """The part of :class:`~edif_backend.dispatch.residents.Residents` that is used here."""

    def serving(self, model: str) -> bool:
        """Whether jobs for ``model`` can be sent now."""

    def tend(self, waiting: Mapping[str, int]) -> None:
        """Load what is wanted, let go what has to."""

    def press(self, waiting: Mapping[str, int]) -> None:
        """Note since when jobs wait for a model though all its slots are taken."""


class Tending:
    """Looks after the models, not too often."""

    def __init__(self, residents: Tended, clock: Clock) -> None:
        self._residents = residents
        self._clock = clock
        self._tended_at = float("-inf")
        self._put_off = False

    def turn(self, waiting: Mapping[str, int], *, passing: bool) -> None:
        """A turn of the dispatcher.

        Args:
            waiting: number of waiting jobs by model.
            passing: jobs came or went, and nothing else is known to have happened.
        """
        self._put_off = (
            passing and self._clock() - self._tended_at < PAUSE_S and all(map(self._residents.serving, waiting))
        )
        if self._put_off:
            self._residents.press(waiting)
        else:
            self._residents.tend(waiting)
            self._tended_at = self._clock()

    def within_s(self, idle_s: float) -> float:
        """How long the dispatcher may wait for its bell: ``idle_s``, less when the models wait to be looked after."""
        return min(idle_s, PAUSE_S) if self._put_off else idle_s
