"""Limits and charges as the jobs table keeps them, whichever database holds it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import update

from edif_backend.errors import LimitReached
from edif_backend.jobs import Job, Jobs, Note, Reservation, Submission, Use, schema
from edif_backend.settings import Limits
from edif_protocol.wire import State

MODEL, ME = "edif/tiny-gpt2", "dispatcher"
#: 2026-01-31 23:00 UTC, an hour before the count of device-seconds starts anew.
LATE = 1_769_900_400.0


def submission(number: int, user: str = "ada", size: int = 10) -> Submission:
    return Submission(f"{number:032d}", user, "", MODEL, "key", compress=False, env={}, payload_bytes=size)


def claimed(jobs: Jobs, user: str = "ada") -> Job:
    (job,) = jobs.claim(ME, {MODEL: [user]}, lease_s=10)
    return job


def refused(jobs: Jobs, limits: Limits, number: int = 99, **changes: object) -> LimitReached:
    before = jobs.last_event()
    asked = submission(number, **changes)
    with pytest.raises(LimitReached) as ahead:
        jobs.may_submit(asked.user, asked.payload_bytes, limits)
    with pytest.raises(LimitReached) as caught:
        jobs.submit(asked, limits)
    assert (str(ahead.value), ahead.value.retry_after_s) == (str(caught.value), caught.value.retry_after_s)
    assert jobs.job(submission(number).id) is None
    assert jobs.last_event() == before
    return caught.value


def test_waiting_jobs_are_counted_by_user_and_make_room_when_they_start(jobs: Jobs) -> None:
    two = Limits(queued_jobs=2)
    for number in range(2):
        jobs.submit(submission(number), two)
    error = refused(jobs, two)
    assert "2 jobs of yours are waiting, and at most 2" in str(error)
    assert (error.http_status, error.retry_after_s) == (429, 10)
    jobs.submit(submission(3, user="bob"), two)
    claimed(jobs)
    jobs.submit(submission(4), two)
    jobs.submit(submission(5), Limits(queued_jobs=0))  # 0: any number


def test_a_job_that_is_there_already_is_not_refused(jobs: Jobs) -> None:
    one = Limits(queued_jobs=1)
    first = jobs.submit(submission(1), one)
    jobs.may_submit("ada", 10, one, first.id)
    assert jobs.submit(submission(1), one) == first


def test_payloads_of_waiting_and_running_jobs_are_counted_until_they_end(jobs: Jobs) -> None:
    room = Limits(payload_bytes=100)
    jobs.submit(submission(1, size=60), room)
    job = claimed(jobs)
    assert "would have 110 bytes, and at most 100" in str(refused(jobs, room, size=50))
    jobs.fail(job.id, ME, 1, "no", {})
    jobs.submit(submission(3, size=50), room)


def test_device_seconds_are_charged_with_the_end_of_a_job_and_counted_by_day(jobs: Jobs, clock) -> None:
    clock.time = LATE
    day = Limits(device_seconds_per_day=10)
    for number in range(4):
        jobs.submit(submission(number), day)
    jobs.complete(claimed(jobs).id, ME, 1, "r", 1, {}, device_s=4.5)
    jobs.fail(claimed(jobs).id, ME, 1, "no", {}, device_s=3.0)
    back = claimed(jobs)
    jobs.requeue(back.id, ME, 1, "lost", 3, device_s=2.0)  # its executor died: that was its user's
    assert jobs.charged_today() == {"ada": 9.5}
    jobs.submit(submission(5), day)
    again = claimed(jobs)
    assert (again.id, again.attempt) == (back.id, 2)
    jobs.complete(again.id, ME, 2, "r", 1, {}, device_s=0.5)
    error = refused(jobs, day)
    assert "have run 10 s on the devices today, and 10 s a day" in str(error)
    assert error.retry_after_s == 3600
    clock.time += 3600
    assert jobs.charged_today() == {}
    jobs.submit(submission(6), day)


def test_who_has_lost_the_claim_charges_nobody(jobs: Jobs) -> None:
    jobs.submit(submission(1))
    job = claimed(jobs)
    assert not jobs.complete(job.id, "another", 1, "r", 1, {}, device_s=5)
    assert not jobs.fail(job.id, ME, 2, "no", {}, device_s=5)
    jobs.requeue(job.id, ME, 1, "the fabric's own loss", 3)
    assert not jobs.complete(job.id, ME, 1, "r", 1, {}, device_s=5)
    assert jobs.charged_today() == {}


def test_many_gateways_together_let_no_more_in_than_the_limit(new_jobs: Callable[[], Jobs]) -> None:
    tables, limits = [new_jobs() for _ in range(4)], Limits(queued_jobs=7)
    begin = threading.Barrier(4)

    def submit(gateway: int) -> int:
        begin.wait()
        accepted = 0
        for number in range(10):
            try:
                tables[gateway].submit(submission(gateway * 100 + number), limits)
                accepted += 1
            except LimitReached:
                pass
        return accepted

    with ThreadPoolExecutor() as threads:
        assert sum(threads.map(submit, range(4))) == 7
    assert tables[0].use("ada").queued_jobs == 7


def test_charges_of_many_replicas_add_up(new_jobs: Callable[[], Jobs]) -> None:
    tables = [new_jobs() for _ in range(4)]
    for number in range(40):
        tables[0].submit(submission(number))
    jobs = tables[0].claim(ME, {MODEL: ["ada"] * 40}, lease_s=10)

    def end(worker: int) -> None:
        for job in jobs[worker::4]:
            tables[worker].complete(job.id, ME, 1, "r", 1, {}, device_s=0.25)

    with ThreadPoolExecutor() as threads:
        list(threads.map(end, range(4)))
    assert tables[0].charged_today() == {"ada": 10}


def test_use_is_what_the_limits_are_judged_by(jobs: Jobs) -> None:
    assert jobs.use("ada") == Use()
    for number in range(4):
        jobs.submit(replace(submission(number, size=10 + number), groups=("staff", "course")))
    jobs.complete(claimed(jobs).id, ME, 1, "results/x", 500, {}, device_s=2)
    claimed(jobs)
    jobs.submit(submission(9, user="bob"))
    assert jobs.use("ada") == Use(
        queued_jobs=2, running_jobs=1, payload_bytes=11 + 12 + 13, stored_bytes=500, device_seconds_today=2
    )
    assert [job.id[-1] for job in jobs.waiting_of("ada")] == ["2", "3"]
    assert jobs.groups(["ada", "bob", "nobody"]) == {"ada": ["course", "staff"], "bob": []}


def test_a_job_keeps_its_own_time_limit(jobs: Jobs) -> None:
    jobs.submit(replace(submission(1), time_limit_s=2.5))
    assert claimed(jobs).time_limit_s == 2.5


def test_waiting_jobs_hear_their_place_and_others_do_not(jobs: Jobs, clock) -> None:
    for number in range(3):
        jobs.submit(submission(number))
    running = claimed(jobs)
    first, second = (submission(number).id for number in (1, 2))
    jobs.note(
        [Note(second, "1 job starts before this one.", 1, 5.0), Note(first, None, 0, 4.0), Note(running.id, "no", 0, 0)]
    )
    found = {job.id: (job.description, job.meta) for job in jobs.newest()}
    assert found[second] == ("1 job starts before this one.", {"position": 1, "starts_at": 5.0})
    assert found[first] == ("", {"position": 0, "starts_at": 4.0})
    assert found[running.id] == ("", {})
    event = jobs.events_after(0)[-1]
    assert (event.job, event.kind, event.description) == (second, "QUEUED", "1 job starts before this one.")
    clock.time = 0.0
    error = refused(jobs, Limits(queued_jobs=2))
    assert error.retry_after_s == 4  # when the first of them starts
    assert claimed(jobs).meta == {}


def test_the_place_of_a_job_whose_model_is_loaded_keeps_its_state(jobs: Jobs) -> None:
    jobs.submit(submission(1))
    jobs.deploying(MODEL, State.DEPLOYING, "Loading.")
    jobs.note([Note(submission(1).id, "Next to start.", 0, 4.0)])
    assert [event.kind for event in jobs.events_after(0)] == ["RECEIVED", "QUEUED", "DEPLOYING", "DEPLOYING"]


def test_how_far_a_model_is_goes_to_the_oldest_hundred_again_and_again(jobs: Jobs) -> None:
    for number in range(120):
        jobs.submit(submission(number))
    before = jobs.last_event()
    for text in ("Loading.", "Loading.", "Nearly."):
        jobs.deploying(MODEL, State.DEPLOYING, text)
    told = jobs.events_after(before)
    assert len(told) == 200
    assert {event.job for event in told} == {submission(number).id for number in range(100)}


def test_a_run_that_was_cancelled_meanwhile_is_charged_and_nothing_else(jobs: Jobs) -> None:
    jobs.submit(submission(1))
    job = claimed(jobs)
    gone = update(schema.jobs).where(schema.jobs.c.id == job.id).values(state=State.CANCELLED, leased_by=None)
    jobs._database.change(lambda change: change.run(gone) and None)
    assert not jobs.fail(job.id, ME, 1, "stopped", {}, device_s=3)
    assert jobs.charged_today() == {"ada": 3}
    found = jobs.job(job.id)
    assert found is not None
    assert found.state is State.CANCELLED


def test_reservations_and_what_is_set_are_kept(new_jobs: Callable[[], Jobs], clock) -> None:
    jobs = new_jobs()
    hour = Reservation("r1", "course", 4.0, clock.time, clock.time + 3600)
    jobs.reserve(hour)
    jobs.reserve(replace(hour, weight=5.0))  # changed
    jobs.set_limits("group:course", {"queued_jobs": 3})
    jobs.set_limits("group:course", {"weight": 2})
    other = new_jobs()
    assert other.reservations(clock.time) == [replace(hour, weight=5.0)]
    assert other.reservations(clock.time + 3600) == []
    assert other.limits_set() == {"group:course": {"weight": 2.0}}
    assert other.unreserve("r1")
    assert not other.unreserve("r1")
