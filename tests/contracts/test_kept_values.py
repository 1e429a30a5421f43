"""Values that users keep: one a name, entered by a job that runs, used and removed by their owner."""

from __future__ import annotations

from dataclasses import replace

from edif_backend.jobs import Job, Jobs, KeptValue, Submission

ME = "dispatcher"


def running(jobs: Jobs, id: str, user: str) -> Job:
    jobs.submit(Submission(id, user, "", "edif/tiny-gpt2", "key", compress=True, env={}, payload_bytes=1))
    (job,) = jobs.claim(ME, {"edif/tiny-gpt2": [user]}, lease_s=10)
    return job


def value(job: Job, id: str, name: str, count: int = 5) -> KeptValue:
    return KeptValue(id, job.user, name, count, "aa", job.id, job.model, 1.0, 1.0)


def test_a_name_holds_the_value_that_was_kept_last(jobs: Jobs, clock) -> None:
    job = running(jobs, "a" * 32, "ada")
    assert jobs.keep(value(job, "1" * 32, "steer"), ME, 1)
    assert jobs.keep(value(job, "2" * 32, "steer", 7), ME, 1)
    assert jobs.keep(value(job, "3" * 32, "mean"), ME, 1)
    assert [(kept.name, kept.object, kept.bytes) for kept in jobs.kept.of("ada")] == [
        ("mean", "kept/" + "3" * 32, 5),
        ("steer", "kept/" + "2" * 32, 7),
    ]
    assert jobs.kept.one("1" * 32) is None
    assert jobs.kept.bytes_of_users() == {"ada": 12}
    used = jobs.kept.use("ada", "steer")
    assert used is not None
    assert used == replace(value(job, "2" * 32, "steer", 7), used_at=clock())


def test_only_a_job_that_still_runs_keeps_anything(jobs: Jobs) -> None:
    job = running(jobs, "a" * 32, "ada")
    assert not jobs.keep(value(job, "1" * 32, "steer"), "another", 1)
    assert not jobs.keep(value(job, "1" * 32, "steer"), ME, 2)
    jobs.cancel(job.id, "Cancelled by you.", "ada")
    assert not jobs.keep(value(job, "1" * 32, "steer"), ME, 1)
    assert jobs.kept.all() == []


def test_names_are_their_users_own(jobs: Jobs) -> None:
    ada, bob = running(jobs, "a" * 32, "ada"), running(jobs, "b" * 32, "bob")
    assert jobs.keep(value(ada, "1" * 32, "steer"), ME, 1)
    assert jobs.keep(value(bob, "2" * 32, "steer"), ME, 1)
    assert jobs.kept.use("mallory", "steer") is None
    assert not jobs.kept.remove("mallory", "steer")
    assert jobs.kept.remove("ada", "steer")
    assert not jobs.kept.remove("ada", "steer")
    assert [kept.user for kept in jobs.kept.all()] == ["bob"]


def test_what_is_not_used_for_long_goes(jobs: Jobs, clock) -> None:
    job = running(jobs, "a" * 32, "ada")
    for number, name in enumerate(("old", "used")):
        assert jobs.keep(value(job, str(number) * 32, name), ME, 1)
    clock.time += 100
    jobs.kept.use("ada", "used")
    assert jobs.kept.expire(clock() - 50) == 1
    assert [kept.name for kept in jobs.kept.all()] == ["used"]
