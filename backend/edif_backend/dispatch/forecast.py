"""When waiting jobs will start: the order of the fair share, laid onto the slots of one model, as a pure function.

Called by :mod:`~edif_backend.dispatch.telling`, once for each model with waiting jobs.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """One waiting job, and when it starts."""

    user: str
    number: int  #: among the waiting jobs of its user, 0 for the oldest
    position: int  #: how many waiting jobs start before it
    in_s: float


def forecast(
    order: Iterable[str],
    free_in_s: Sequence[float],
    expected_s: Callable[[str], float],
    most: Callable[[str], float] = lambda _: math.inf,
    running: Mapping[str, Sequence[float]] | None = None,
) -> list[Start]:
    """The starts of all waiting jobs, first to last, if each takes what is expected and nobody else comes.

    Args:
        order: users, one entry a job, as :meth:`~edif_backend.dispatch.fairness.FairShare.order` gives them.
        free_in_s: for each slot, in how many seconds it is free.
        expected_s: what a job of a user is expected to take.
        most: how many jobs of a user may run at once; of who may run none nothing starts.
        running: in how many seconds the running jobs of each user end.
    """
    slots, coming = list(free_in_s), iter(order)
    heapq.heapify(slots)
    ends = {user: sorted(times) for user, times in (running or {}).items()}
    held: Counter[str] = Counter()  # jobs that were passed over, because so many of their user run
    ready: list[tuple[float, str]] = []  # when the next held job of a user may start
    numbers: Counter[str] = Counter()
    starts: list[Start] = []
    while slots:
        at = slots[0]
        if ready and ready[0][0] <= at:
            user = heapq.heappop(ready)[1]
            held[user] -= 1
        else:
            found = next(coming, None)
            if found is None and not ready:
                break
            if found is None:  # a slot stays free until a job of the next user ends
                at, user = heapq.heappop(ready)
                held[user] -= 1
            elif most(found) <= 0:
                continue
            else:
                user = found
                if held[user] or not _may_start(ends.setdefault(user, []), at, most(user)):
                    held[user] += 1
                    if held[user] == 1:
                        heapq.heappush(ready, (ends[user][0], user))
                    continue
        starts.append(Start(user, numbers[user], len(starts), at))
        numbers[user] += 1
        end = at + expected_s(user)
        heapq.heapreplace(slots, end)
        heapq.heappush(ends.setdefault(user, []), end)
        if held[user]:
            heapq.heappush(ready, (at if _may_start(ends[user], at, most(user)) else ends[user][0], user))
    return starts


def _may_start(ends: list[float], at: float, most: float) -> bool:
    while ends and ends[0] <= at:
        heapq.heappop(ends)
    return len(ends) < most
