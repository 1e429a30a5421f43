"""What gateway and dispatcher rely on in the jobs table, whichever database holds it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edif_backend.jobs import Job, Jobs, Submission
from edif_backend.jobs import bell as jobs_bell
from edif_backend.jobs import channel as jobs_channel
from edif_protocol.wire import LOG, State

ME, OTHER = "dispatcher", "another"


def submission(id: str = "a" * 32, user: str = "ada", model: str = "edif/tiny-gpt2") -> Submission:
    return Submission(
        id, user, "session-1", model, "key", compress=True, env={"attn_implementation": "sdpa"}, payload_bytes=7
    )


def claim_one(jobs: Jobs, worker: str = ME) -> Job:
    (job,) = jobs.claim(worker, {"edif/tiny-gpt2": ["ada"]}, lease_s=10)
    return job


def kinds(jobs: Jobs) -> list[str]:
    return [event.kind for event in jobs.events_after(0)]


def test_a_job_goes_its_way_and_every_step_is_an_event(jobs: Jobs) -> None:
    jobs.submit(submission())
    job = claim_one(jobs)
    assert (job.state, job.attempt, job.leased_by) == (State.DISPATCHED, 1, ME)
    assert jobs.running(job.id, ME, 1)
    jobs.log(job.id, 1, "hello")
    assert jobs.complete(job.id, ME, 1, "results/x-1", 42, {"seconds": {"run": 0.5}})
    done = jobs.job(job.id)
    assert done is not None
    assert (done.state, done.result, done.result_bytes, done.meta) == (
        State.COMPLETED,
        "results/x-1",
        42,
        {"seconds": {"run": 0.5}},
    )
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DISPATCHED", "RUNNING", LOG, "COMPLETED"]
    ids = [event.id for event in jobs.events_after(0)]
    assert ids == sorted(set(ids))
    assert jobs.last_event() == ids[-1]
    assert all(event.session_id == "session-1" for event in jobs.events_after(0))


def test_submitting_twice_is_submitting_once(jobs: Jobs) -> None:
    first = jobs.submit(submission())
    again = jobs.submit(replace(submission(), user="mallory", payload_bytes=99))
    assert again == first
    assert kinds(jobs) == ["RECEIVED", "QUEUED"]


def test_the_oldest_are_claimed_first_and_no_more_than_fit(jobs: Jobs) -> None:
    for letter in "abc":
        jobs.submit(submission(letter * 32))
    jobs.submit(submission("d" * 32, model="another/model"))
    claimed = jobs.claim(ME, {"edif/tiny-gpt2": ["ada"] * 2}, lease_s=10)
    assert [job.id[0] for job in claimed] == ["a", "b"]
    assert jobs.waiting() == {"edif/tiny-gpt2": {"ada": 1}, "another/model": {"ada": 1}}
    assert jobs.claim(OTHER, {"edif/tiny-gpt2": ["ada"] * 5}, lease_s=10)[0].id[0] == "c"


def test_claims_follow_the_turns_of_users_and_take_the_oldest_of_each(jobs: Jobs) -> None:
    for letter, user in zip("abcdef", ("ada", "ada", "ada", "bob", "bob", "cleo"), strict=True):
        jobs.submit(submission(letter * 32, user=user))
    claimed = jobs.claim(ME, {"edif/tiny-gpt2": ["bob", "ada", "bob", "bob", "nobody"]}, lease_s=10)
    assert [job.id[0] for job in claimed] == ["a", "d", "e"]
    assert jobs.waiting() == {"edif/tiny-gpt2": {"ada": 2, "cleo": 1}}
    assert jobs.claim(ME, {"edif/tiny-gpt2": []}, lease_s=10) == []


def test_only_the_holder_of_the_claim_ends_the_job_and_only_once(jobs: Jobs) -> None:
    jobs.submit(submission())
    job = claim_one(jobs)
    assert not jobs.complete(job.id, OTHER, 1, "r", 1, {})
    assert not jobs.complete(job.id, ME, 2, "r", 1, {})
    assert jobs.fail(job.id, ME, 1, "ZeroDivisionError", {})
    assert not jobs.complete(job.id, ME, 1, "r", 1, {})
    assert not jobs.running(job.id, ME, 1)
    jobs.log(job.id, 1, "late")
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DISPATCHED", "ERROR"]


def test_a_waiting_job_is_cancelled_at_once_and_once(jobs: Jobs) -> None:
    jobs.submit(submission())
    for _ in range(2):
        job = jobs.cancel("a" * 32, "Cancelled by you.", "ada")
        assert job is not None
        assert (job.state, job.description, job.meta) == (
            State.CANCELLED,
            "Cancelled by you.",
            {"code": "cancelled"},
        )
    assert jobs.claim(ME, {"edif/tiny-gpt2": ["ada"]}, lease_s=10) == []
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "CANCELLED"]


def test_a_running_job_that_is_cancelled_loses_its_claim(jobs: Jobs) -> None:
    jobs.submit(submission())
    job = claim_one(jobs)
    assert jobs.held(ME) == {(job.id, 1)}
    assert jobs.cancel(job.id, "Cancelled by the operator.") is not None
    assert jobs.held(ME) == set()
    assert not jobs.running(job.id, ME, 1)
    assert not jobs.complete(job.id, ME, 1, "results/late", 1, {})
    jobs.requeue(job.id, ME, 1, "lost", attempts=3)
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DISPATCHED", "CANCELLED"]


def test_what_has_ended_and_what_is_anothers_is_not_cancelled(jobs: Jobs) -> None:
    jobs.submit(submission())
    assert jobs.cancel("a" * 32, "no", "mallory") is None
    assert jobs.cancel("b" * 32, "no", "ada") is None
    job = claim_one(jobs)
    assert jobs.complete(job.id, ME, 1, "results/x-1", 1, {})
    done = jobs.cancel(job.id, "too late", "ada")
    assert done is not None
    assert (done.state, done.result) == (State.COMPLETED, "results/x-1")
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DISPATCHED", "COMPLETED"]


def test_a_users_jobs_come_in_pages_and_events_by_job(jobs: Jobs) -> None:
    for letter, user in zip("abcde", ("ada", "bob", "ada", "ada", "bob"), strict=True):
        jobs.submit(submission(letter * 32, user=user))
    first = jobs.newest("ada", limit=2)
    assert [job.id[0] for job in first] == ["d", "c"]
    assert [job.id[0] for job in jobs.newest("ada", limit=2, before=first[-1].id)] == ["a"]
    assert jobs.newest("ada", before="x" * 32) == []
    events = jobs.events_of("c" * 32, 0, 10)
    assert [(event.job[0], event.kind) for event in events] == [("c", "RECEIVED"), ("c", "QUEUED")]
    assert [event.kind for event in jobs.events_of("c" * 32, events[0].id, 10)] == ["QUEUED"]
    assert len(jobs.events_of("c" * 32, 0, 1)) == 1


def test_a_silent_dispatcher_loses_its_jobs_and_a_late_result_does_not_count(jobs: Jobs, clock) -> None:
    jobs.submit(submission())
    job = claim_one(jobs, OTHER)
    clock.time += 6
    jobs.renew(OTHER, lease_s=10)
    clock.time += 6
    assert jobs.requeue_lost(attempts=3, worker=ME) == 0  # it gave a sign of life
    clock.time += 6
    assert jobs.requeue_lost(attempts=3, worker=OTHER) == 0  # whoever asks is alive
    assert jobs.requeue_lost(attempts=3, worker=ME) == 1
    again = claim_one(jobs)
    assert (again.id, again.attempt) == (job.id, 2)
    assert not jobs.complete(job.id, OTHER, 1, "results/late", 1, {})
    assert jobs.complete(job.id, ME, 2, "results/right", 1, {})
    assert kinds(jobs).count("COMPLETED") == 1


def test_a_dispatcher_that_starts_again_finds_its_claims(jobs: Jobs) -> None:
    jobs.submit(submission())
    assert jobs.claims_of(ME) == []
    job = claim_one(jobs)
    assert jobs.running(job.id, ME, 1)
    assert [(found.id, found.attempt) for found in jobs.claims_of(ME)] == [(job.id, 1)]
    assert jobs.claims_of(OTHER) == []


def test_a_start_that_the_fabric_lost_does_not_count_against_the_job(jobs: Jobs) -> None:
    jobs.submit(submission())
    for attempt in range(1, 4):
        job = claim_one(jobs)
        jobs.requeue(job.id, ME, attempt, "Part of the workbench was started again.", attempts=2, excused=True)
    for attempt, state in ((4, State.QUEUED), (5, State.ERROR)):
        claim_one(jobs)
        jobs.requeue("a" * 32, ME, attempt, "The model's process was lost.", attempts=2)
        assert jobs.job("a" * 32).state is state


def test_a_job_that_takes_the_fabric_down_each_time_ends_all_the_same(jobs: Jobs) -> None:
    jobs.submit(submission())
    for attempt in range(1, 12):
        job = claim_one(jobs)
        jobs.requeue(job.id, ME, attempt, "Part of the workbench was started again.", attempts=3, excused=True)
    end = jobs.job("a" * 32)
    assert (end.state, end.attempt) == (State.ERROR, 11)


def test_a_job_that_is_lost_again_and_again_is_given_up(jobs: Jobs) -> None:
    jobs.submit(submission())
    for attempt in (1, 2, 3):
        job = claim_one(jobs)
        assert job.attempt == attempt
        jobs.requeue(job.id, ME, attempt, "The model's process was lost.", attempts=3)
    end = jobs.job("a" * 32)
    assert end is not None
    assert end.state is State.ERROR
    assert "given up" in end.description
    assert end.meta == {"code": "attempts-used-up"}


def test_waiting_jobs_hear_how_far_their_model_is_and_once_only(jobs: Jobs) -> None:
    jobs.submit(submission())
    for _ in range(2):
        jobs.deploying("edif/tiny-gpt2", State.DEPLOYING, "Loading the weights.")
    jobs.deploying("another/model", State.DEPLOYING, "Loading.")
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DEPLOYING"]
    assert claim_one(jobs).state is State.DISPATCHED


def test_jobs_of_a_model_that_cannot_be_loaded_end_with_its_reason(jobs: Jobs) -> None:
    jobs.submit(submission())
    jobs.refuse_waiting("edif/tiny-gpt2", "It is broken.", {"code": "model-unusable"})
    job = jobs.job("a" * 32)
    assert job is not None
    assert (job.state, job.description) == (State.ERROR, "It is broken.")


def test_lists_are_newest_first_and_of_one_user_when_asked(jobs: Jobs) -> None:
    jobs.submit(submission("a" * 32, user="ada"))
    jobs.submit(submission("b" * 32, user="bob"))
    assert [job.user for job in jobs.newest()] == ["bob", "ada"]
    assert [job.user for job in jobs.newest(user="ada")] == ["ada"]


def test_what_is_written_is_there_for_every_process(new_jobs: Callable[[], Jobs]) -> None:
    new_jobs().submit(submission())
    assert new_jobs().job("a" * 32) is not None  # the first is not closed: it may have been killed


def test_signs_of_life_and_deployments_are_told(jobs: Jobs, clock) -> None:
    assert jobs.dispatcher_seen_at() is None
    jobs.renew(ME, lease_s=10)
    assert jobs.dispatcher_seen_at() == clock.time
    jobs.deploy("edif/tiny-gpt2", "DEPLOYING", "Loading.", 0)
    jobs.deploy("edif/tiny-gpt2", "RUNNING", "", 1)
    assert jobs.deployments()["edif/tiny-gpt2"].state == "RUNNING"


def test_text_that_a_database_cannot_hold_is_mended_and_not_refused(jobs: Jobs) -> None:
    jobs.submit(submission())
    job = claim_one(jobs)
    jobs.log(job.id, 1, "a\0b \ud800 \u2028 \N{GRINNING FACE}")
    jobs.fail(job.id, ME, 1, "no\0", {"detail": "\0"})
    assert jobs.job("\0" * 32) is None
    line, end = jobs.events_after(0)[-2:]
    assert line.description == "a\N{REPLACEMENT CHARACTER}b ? \u2028 \N{GRINNING FACE}"
    assert end.description == "no\N{REPLACEMENT CHARACTER}"


async def test_a_bell_rings_for_its_role_and_a_wait_without_it_ends(new_jobs: Callable[[], Jobs]) -> None:
    listening, working = new_jobs(), new_jobs()
    with listening.bell("dispatcher") as bell:
        await bell.wait(timeout_s=0.5)  # a fresh connection may count as a ring
        working.submit(submission())
        began = asyncio.get_running_loop().time()
        await bell.wait(timeout_s=60)
        assert asyncio.get_running_loop().time() - began < 30  # it rang: 60 s are longer than this test may take
        working.renew(ME, lease_s=10)  # rings nobody
        await bell.wait(timeout_s=0.01)


async def test_what_need_not_be_read_at_once_rings_softly(
    new_jobs: Callable[[], Jobs], monkeypatch: pytest.MonkeyPatch
) -> None:
    listening, working = new_jobs(), new_jobs()
    with listening.bell("gateway") as bell:
        await bell.wait(timeout_s=0.5)  # a fresh connection may count as a ring
        working.submit(submission())
        async with asyncio.timeout(30):
            await bell.wait(timeout_s=60)  # alone, it is heard all the same
        for module in (jobs_bell, jobs_channel):
            monkeypatch.setattr(module, "LULL_S", 60.0)
        job = claim_one(working)
        working.running(job.id, ME, 1)
        heard = asyncio.create_task(bell.wait(timeout_s=60))
        await asyncio.sleep(0.3)
        assert not heard.done()
        working.complete(job.id, ME, 1, "results/x-1", 42, {})
        async with asyncio.timeout(30):
            await heard  # the end of a job is not soft, whatever has rung before


def test_a_short_jobs_start_is_told_with_its_end_and_once(jobs: Jobs) -> None:
    jobs.submit(submission())
    job = claim_one(jobs)
    assert jobs.complete(job.id, ME, 1, "results/x-1", 42, {}, started_at=1_000_000.5)
    assert kinds(jobs) == ["RECEIVED", "QUEUED", "DISPATCHED", "RUNNING", "COMPLETED"]
    assert [event.at for event in jobs.events_after(0) if event.kind == State.RUNNING] == [1_000_000.5]
    jobs.submit(submission("b" * 32))
    job = claim_one(jobs)
    assert jobs.running(job.id, ME, 1, 1_000_000.7)
    assert jobs.fail(job.id, ME, 1, "no", {}, started_at=1_000_000.7)
    assert kinds(jobs)[5:] == ["RECEIVED", "QUEUED", "DISPATCHED", "RUNNING", "ERROR"]
    jobs.submit(submission("c" * 32))
    job = claim_one(jobs)
    assert jobs.fail(job.id, ME, 1, "It never started.", {})
    assert kinds(jobs)[10:] == ["RECEIVED", "QUEUED", "DISPATCHED", "ERROR"]


def test_reading_does_not_wait_for_who_writes(new_jobs: Callable[[], Jobs], tmp_path: Path) -> None:
    jobs = new_jobs()
    if not jobs.near:
        pytest.skip("a server has its own turns")
    jobs.submit(submission())
    other = sqlite3.connect(tmp_path / "jobs.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = threading.Thread(target=jobs.renew, args=(ME, 10.0))
    waits.start()
    assert len(jobs.events_after(0)) == 2  # at once, while that one waits for the other process
    assert waits.is_alive()
    other.execute("ROLLBACK")
    waits.join(timeout=30)
    assert jobs.dispatcher_seen_at() is not None
    other.close()
