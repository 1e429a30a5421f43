"""Whether the jobs table kept its promises, judged afterwards by its events: the checker of ``edif bench faults``.

No database and no clock: everything comes as arguments, so that its own promises are tested on histories made up.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from edif_backend.jobs.job import Event, Job
from edif_protocol.wire import LOG, WAITING_STATES, State

_ENDS = frozenset({State.ERROR, State.CANCELLED})

#: What may come after a state.  A job is claimed by DISPATCHED, and claimed again only after it went back to the queue.
_NEXT = {
    State.RECEIVED: frozenset({State.QUEUED}),
    **dict.fromkeys(WAITING_STATES, WAITING_STATES | _ENDS | {State.DISPATCHED}),
    State.DISPATCHED: _ENDS | {State.RUNNING, State.QUEUED},
    State.RUNNING: _ENDS | {State.COMPLETED, State.QUEUED},
    State.COMPLETED: frozenset({State.EXPIRED}),
    State.ERROR: frozenset(),
    State.CANCELLED: frozenset(),
    State.EXPIRED: frozenset(),
}

_CLAIMED = (State.DISPATCHED, State.RUNNING)


def audit(
    events: Sequence[Event], jobs: Iterable[Job], stored: Collection[str], accepted: Iterable[str] = ()
) -> list[str]:
    """Every broken promise as a sentence; nothing when all were kept.

    Args:
        events: all events, in the order in which the table gave them.
        jobs: every job as it stands when all should have ended.
        stored: names of the result objects there are.
        accepted: ids that clients were told.
    """
    rows = {job.id: job for job in jobs}
    histories: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        histories[event.job].append(event)
    found = list(_order(events))
    found += [f"{id}: was accepted and is not there" for id in sorted(set(accepted) - rows.keys())]
    found += [f"{id}: has events and no row" for id in sorted(histories.keys() - rows.keys())]
    for id, job in rows.items():
        found += [f"{id}: {sentence}" for sentence in (*_history(histories[id]), *_row(job, histories[id], stored))]
    return found


def _order(events: Sequence[Event]) -> Iterator[str]:
    for before, after in itertools.pairwise(events):
        if after.id <= before.id:
            yield f"{after.job}: event {after.id} comes after event {before.id}"


def _history(events: Sequence[Event]) -> Iterator[str]:
    """Legal steps alone: so one end, no two claims at once, no line of a job that does not run."""
    if not events or events[0].kind != State.RECEIVED:
        yield "does not begin with RECEIVED"
        return
    state = State.RECEIVED
    for event in events[1:]:
        if event.kind == LOG:
            if state not in _CLAIMED:
                yield f"event {event.id}: a line while it was {state}"
            continue
        step = State(event.kind)
        if step not in _NEXT[state]:
            yield f"event {event.id}: {state} -> {step}"
        state = step


def _row(job: Job, events: Sequence[Event], stored: Collection[str]) -> Iterator[str]:
    """What the row says is what happened."""
    states = [event.kind for event in events if event.kind != LOG]
    if states and states[-1] != job.state:
        yield f"is {job.state}, and its last event says {states[-1]}"
    if not job.state.final:
        yield f"has not ended: {job.state}"
    claims = states.count(State.DISPATCHED)
    if job.attempt != claims:
        yield f"was claimed {claims} times, and counts {job.attempt}"
    if job.state is State.COMPLETED:
        if job.result != f"results/{job.id}-{job.attempt}":
            yield f"names {job.result} as the result of start {job.attempt}"
        if job.result not in stored:
            yield f"its result {job.result} is not stored"
    elif job.result is not None:
        yield f"is {job.state} and has a result"
