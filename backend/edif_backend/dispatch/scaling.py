"""How many copies of a model there should be: more while jobs wait too long, fewer when copies have nothing to do.

Pure functions of what there is, called by :mod:`~edif_backend.dispatch.residents` on every turn.  Promises, tried by
tests: never fewer copies than the minimum nor more than the maximum; none goes that was not idle for ``down_s``; one
comes at a time, after jobs have waited ``up_s`` for a slot since the last came.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Crew:
    """The copies of one model, at one moment."""

    least: int
    most: int
    idle_since: Sequence[float | None]  #: of each copy that stays, in order of number; None: it has work, or is loading
    loading: int  #: how many of these are being loaded
    wanted: bool  #: pinned, ordered, or it has jobs
    pressed_since: float | None  #: since when jobs have waited though every slot was taken


def missing(crew: Crew) -> int:
    """How many copies must come, whoever has to go for them."""
    return max(crew.least - len(crew.idle_since), 0) if crew.wanted else 0


def wants_spare(crew: Crew, now: float, up_s: float) -> bool:
    """Whether one more copy should come if there is room."""
    full = crew.least <= len(crew.idle_since) < crew.most and not crew.loading
    return full and crew.pressed_since is not None and now - crew.pressed_since >= up_s


def surplus(crew: Crew, now: float, down_s: float) -> list[int]:
    """Which copies should go, by their place in ``idle_since``: beyond the most, or spare and idle for long."""
    spare = range(crew.least, len(crew.idle_since))
    idle = {place for place in spare if _idle_s(crew.idle_since[place], now) >= down_s}
    return sorted(idle | set(range(crew.most, len(crew.idle_since))))


def _idle_s(since: float | None, now: float) -> float:
    return -1.0 if since is None else now - since
