"""The checker of the fault test finds nothing in a table that keeps its promises, and the lies of one that does not."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_backend.jobs import Event, Job, Jobs, Submission
from edif_backend.jobs import statements as sql
from edif_backend.jobs.audit import audit
from edif_protocol.wire import State

MODEL = "edif/tiny-gpt2"
ATTEMPTS = 3


class ForgetsTheClaim(Jobs):
    """The planted bug: a result counts, whoever brings it and however late."""

    def complete(
        self, job: str, worker: str, attempt: int, result: str, result_bytes: int, meta: Mapping[str, Any]
    ) -> bool:
        def work(change) -> bool:
            if not change.run(sql.FIND, {"job": job}).first():
                return False
            self._finish(change, job, State.COMPLETED, "Done.", result, result_bytes, meta)
            return True

        return self._database.change(work, "gateway")


class ForgetsToRequeue(Jobs):
    """Another one: what a dispatcher lost stays lost."""

    def requeue_lost(self, attempts: int, worker: str) -> int:
        return 0


def turmoil(jobs: Jobs, clock: Any, seed: int) -> list[str]:
    """Two dispatchers that die, are late and come back, on one table, until all should have ended; the audit of it."""
    dice = random.Random(seed)
    accepted, stored = [], set()
    claims: list[Job] = []
    for step in range(150):
        worker = dice.choice(("one", "another"))
        act = dice.choice(("submit", "claim", "end", "end", "late", "lose", "silence"))
        if act == "submit" and step < 90:
            id = f"{dice.getrandbits(128):032x}"
            submission = Submission(id, "ada", "", MODEL, "key", compress=False, env={}, payload_bytes=1)
            accepted += [jobs.submit(submission).id for _ in range(dice.randint(1, 2))]
        elif act == "claim":
            claims += jobs.claim(worker, {MODEL: ["ada"]}, 10)
        elif act == "silence":
            clock.time += 11
            jobs.renew(worker, 10)
            jobs.requeue_lost(ATTEMPTS, worker)
        elif claims:
            job = claims[-1] if act == "end" else dice.choice(claims)  # the other has died or lost its claim, maybe
            if act == "lose":
                jobs.requeue(job.id, job.leased_by, job.attempt, "lost", ATTEMPTS, excused=dice.random() < 0.5)
                continue
            _end(jobs, job, stored, dice)
    for _ in range(12 * len(accepted)):
        clock.time += 11
        jobs.requeue_lost(ATTEMPTS, "one")
        claimed = jobs.claim("one", {MODEL: ["ada"] * 5}, 10)
        for job in claimed:
            _end(jobs, job, stored, dice)
        if not claimed and not jobs.unfinished():
            break
    return audit(jobs.events_after(0, 100_000), jobs.newest(limit=100_000), stored, accepted)


def _end(jobs: Jobs, job: Job, stored: set[str], dice: random.Random) -> None:
    jobs.running(job.id, job.leased_by, job.attempt)
    jobs.log(job.id, job.attempt, "line")
    if dice.random() < 0.2:
        jobs.fail(job.id, job.leased_by, job.attempt, "no", {})
    else:
        stored.add(f"results/{job.id}-{job.attempt}")
        jobs.complete(job.id, job.leased_by, job.attempt, f"results/{job.id}-{job.attempt}", 1, {})


@pytest.mark.parametrize("seed", range(3))
def test_the_table_keeps_its_promises_in_turmoil(new_jobs: Callable[[], Jobs], clock: Any, seed: int) -> None:
    jobs = new_jobs()
    assert turmoil(jobs, clock, seed) == []
    assert len(jobs.newest(limit=1000)) > 5


@pytest.mark.parametrize(
    ("broken", "found"), [(ForgetsTheClaim, "COMPLETED -> COMPLETED"), (ForgetsToRequeue, "has not ended")]
)
def test_a_planted_bug_is_found(new_jobs: Callable[[], Jobs], clock: Any, broken: type[Jobs], found: str) -> None:
    table = new_jobs()
    sentences = turmoil(broken(table._database, clock), clock, 0)
    assert any(found in sentence for sentence in sentences), sentences


# -- histories made up ---------------------------------------------------------

ROW = Job(
    *("a" * 32, "ada", "", MODEL, "key", False, {}, 1, State.QUEUED, "", 0, None, 0.0, 0.0, None, 0),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], Job]:
    """A job that went the long way, with or without luck."""
    kinds = [
        "RECEIVED",
        "QUEUED",
        *draw(st.lists(st.sampled_from(["PROVISIONING", "DEPLOYING", "QUEUED"]), max_size=3)),
    ]
    attempt = draw(st.integers(1, 3))
    starts = [draw(st.sampled_from([[], ["RUNNING"], ["RUNNING", "LOG", "LOG"]])) for _ in range(attempt)]
    for start in starts:
        kinds += ["DISPATCHED", *start, "QUEUED"]
    end = draw(st.sampled_from(["COMPLETED", "ERROR", "CANCELLED"] if starts[-1] else ["ERROR", "CANCELLED"]))
    kinds[-1] = end
    ids = sorted(draw(st.sets(st.integers(1, 1000), min_size=len(kinds), max_size=len(kinds))))
    result = f"results/{ROW.id}-{attempt}" if end == "COMPLETED" else None
    row = replace(ROW, state=State(end), attempt=attempt, result=result)
    return [Event(id, ROW.id, "", kind, "", 0.0) for id, kind in zip(ids, kinds, strict=True)], row


STORED = {f"results/{ROW.id}-{attempt}" for attempt in (1, 2, 3)}


@given(histories())
def test_nothing_is_found_in_a_right_history(made: tuple[list[Event], Job]) -> None:
    events, row = made
    assert audit(events, [row], STORED, [row.id]) == []


@given(histories(), st.data())
def test_a_history_with_anything_changed_is_found(made: tuple[list[Event], Job], data: st.DataObject) -> None:
    events, row = made
    changed = [event for event in events if event.kind in ("RECEIVED", "DISPATCHED", "COMPLETED", "ERROR", "CANCELLED")]
    at = events.index(data.draw(st.sampled_from(changed)))
    how = data.draw(st.sampled_from(["left out", "twice", "swapped", "again later"]))
    if how == "left out":
        events = events[:at] + events[at + 1 :]
    elif how == "twice":
        events = [*events[: at + 1], *events[at:]]
    elif how == "swapped":
        other = at - 1 if at else 1
        events[at], events[other] = events[other], events[at]
    else:
        events = [*events, replace(events[at], id=events[-1].id + 1)]
    assert audit(events, [row], STORED, [row.id])


@given(histories())
def test_a_row_that_says_something_else_is_found(made: tuple[list[Event], Job]) -> None:
    events, row = made
    assert audit(events, [replace(row, attempt=row.attempt + 1)], STORED)
    assert audit(events, [replace(row, state=State.RUNNING)], STORED)
    assert audit(events, [], STORED)
    assert audit(events, [row], STORED, ["b" * 32])
    if row.state is State.COMPLETED:
        assert audit(events, [row], set())
        assert audit(events, [replace(row, result=f"results/{row.id}-9")], STORED)
    else:
        assert audit(events, [replace(row, result=f"results/{row.id}-1")], STORED)
