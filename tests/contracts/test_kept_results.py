"""What a sweep relies on in the jobs table, whichever database holds it."""

from __future__ import annotations

from pathlib import Path

from edif_backend.jobs import Jobs, Submission
from edif_backend.objects.expiry import sweep
from edif_backend.objects.folder import FolderObjects
from edif_protocol.wire import State

WORKER = "dispatcher"


def finished(jobs: Jobs, letter: str, user: str = "ada", size: int = 10) -> str:
    """A job that has left a result; its id."""
    id = letter * 32
    jobs.submit(Submission(id, user, "", "model", "key", compress=False, env={}, payload_bytes=1))
    jobs.claim(WORKER, {"model": [user]}, lease_s=10)
    assert jobs.complete(id, WORKER, 1, f"results/{id}-1", size, {"sha256": "5"})
    return id


def test_results_are_listed_until_they_expire_and_that_is_an_event(jobs: Jobs) -> None:
    first, second = finished(jobs, "a"), finished(jobs, "b", user="grace", size=20)
    jobs.submit(Submission("c" * 32, "ada", "", "model", "key", compress=False, env={}, payload_bytes=1))
    assert jobs.unfinished() == {"c" * 32}
    kept = jobs.kept_results()
    assert [row[:4] for row in kept] == [
        (first, "ada", f"results/{first}-1", 10),
        (second, "grace", f"results/{second}-1", 20),
    ]
    assert jobs.expire(first, "gone")
    assert not jobs.expire(first, "gone again")
    assert not jobs.expire("c" * 32, "it has none")
    job = jobs.job(first)
    assert job is not None
    assert (job.state, job.description, job.result, job.result_bytes) == (State.EXPIRED, "gone", None, 0)
    assert job.meta == {"sha256": "5"}
    assert [row[0] for row in jobs.kept_results()] == [second]
    assert [(event.kind, event.description) for event in jobs.events_after(0) if event.job == first][-1] == (
        "EXPIRED",
        "gone",
    )


def test_a_sweep_keeps_each_user_within_their_room(jobs: Jobs, tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    ids = [finished(jobs, letter) for letter in "abc"]
    other = finished(jobs, "d", user="grace", size=1000)
    for id in (*ids, other):
        objects.write(f"results/{id}-1", b"0123456789")
    assert sweep(jobs, objects, 1e9, lambda _: 25) == 1
    assert {found.name for found in objects.listing("results")} == {f"results/{id}-1" for id in (*ids[1:], other)}
    first = jobs.job(ids[0])
    assert first is not None
    assert first.state is State.EXPIRED
    assert "room" in first.description
