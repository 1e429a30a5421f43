"""Many processes at one jobs table: what one of them may rely on while the others work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from edif_backend.jobs import Event, Jobs, Submission
from edif_protocol.wire import LOG, State

MODEL = "edif/tiny-gpt2"
NewJobs = Callable[[], Jobs]


def submission(number: int) -> Submission:
    return Submission(f"{number:032d}", "ada", "", MODEL, "key", compress=False, env={}, payload_bytes=1)


def test_a_reader_never_misses_an_event_of_concurrent_writers(new_jobs: NewJobs) -> None:
    """Ids are drawn before a transaction commits, so a database may show the larger one first."""
    writers, each = 4, 40
    tables = [new_jobs() for _ in range(writers)]
    reader = new_jobs()
    seen: list[Event] = []
    done = threading.Event()

    def read() -> None:
        last = False
        while not last:
            last = done.is_set()
            while events := reader.events_after(seen[-1].id if seen else 0):
                seen.extend(events)

    def write(writer: int) -> None:
        for number in range(each):
            tables[writer].submit(submission(writer * each + number))

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read)
        list(threads.map(write, range(writers)))
        done.set()
        reading.result()
    assert seen == reader.events_after(0)
    assert Counter(event.kind for event in seen) == {"RECEIVED": writers * each, "QUEUED": writers * each}


def test_two_dispatchers_never_claim_the_same_job(new_jobs: NewJobs) -> None:
    claimers, jobs = 4, 60
    tables = [new_jobs() for _ in range(claimers)]
    for number in range(jobs):
        tables[0].submit(submission(number))
    begin = threading.Barrier(claimers)

    def claim(claimer: int) -> list[str]:
        mine: list[str] = []
        begin.wait()
        while tables[claimer].waiting():
            mine += [job.id for job in tables[claimer].claim(f"dispatcher-{claimer}", {MODEL: ["ada"] * 3}, lease_s=10)]
        return mine

    with ThreadPoolExecutor() as threads:
        claimed = [id for mine in threads.map(claim, range(claimers)) for id in mine]
    assert sorted(claimed) == [submission(number).id for number in range(jobs)]
    assert {job.attempt for job in tables[0].newest(limit=jobs)} == {1}


def test_the_same_job_submitted_by_many_at_once_is_one_job(new_jobs: NewJobs) -> None:
    tables = [new_jobs() for _ in range(4)]
    begin = threading.Barrier(4)

    def submit(table: Jobs) -> None:
        for number in range(10):
            begin.wait()
            assert table.submit(submission(number)).state is State.QUEUED

    with ThreadPoolExecutor() as threads:
        list(threads.map(submit, tables))
    assert len(tables[0].newest()) == 10
    assert len(tables[0].events_after(0)) == 20


def test_a_job_ends_once_and_its_end_is_its_last_event(new_jobs: NewJobs) -> None:
    one, two, three = (new_jobs() for _ in range(3))
    for number in range(15):
        one.submit(submission(number))
        (job,) = one.claim("d", {MODEL: ["ada"]}, lease_s=10)
        begin = threading.Barrier(3)

        def end(table: Jobs, result: str, begin: threading.Barrier = begin, id: str = job.id) -> bool:
            begin.wait()
            return table.complete(id, "d", 1, result, 1, {})

        def log(begin: threading.Barrier = begin, id: str = job.id) -> None:
            begin.wait()
            for _ in range(5):
                three.log(id, 1, "line")

        with ThreadPoolExecutor() as threads:
            ends = [threads.submit(end, one, "x"), threads.submit(end, two, "y")]
            threads.submit(log).result()
            assert sorted(future.result() for future in ends) == [False, True]
        kinds = [event.kind for event in one.events_after(0) if event.job == job.id]
        assert kinds[-1] == "COMPLETED"
        assert set(kinds[3:-1]) <= {LOG}


def test_a_job_completes_or_is_cancelled_and_never_both(new_jobs: NewJobs) -> None:
    one, two = new_jobs(), new_jobs()
    for number in range(30):
        one.submit(submission(number))
        (job,) = one.claim("d", {MODEL: ["ada"]}, lease_s=10)
        begin = threading.Barrier(2)

        def complete(begin: threading.Barrier = begin, id: str = job.id) -> bool:
            begin.wait()
            return one.complete(id, "d", 1, "x", 1, {})

        def cancel(begin: threading.Barrier = begin, id: str = job.id) -> State:
            begin.wait()
            return two.cancel(id, "no more", "ada").state

        with ThreadPoolExecutor() as threads:
            completing, cancelling = threads.submit(complete), threads.submit(cancel)
            completed, state = completing.result(), cancelling.result()
        assert state == (State.COMPLETED if completed else State.CANCELLED)
        kinds = [event.kind for event in one.events_of(job.id, 0, 10)]
        assert kinds == ["RECEIVED", "QUEUED", "DISPATCHED", state]
