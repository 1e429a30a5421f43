"""What a sweep throws away, and what it says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_backend.objects.expiry import Kept, overdue, sweep
from edif_backend.objects.folder import FolderObjects

DAY = 86400.0
NOW = 1000 * DAY


class Ledger:
    """The jobs of a test: id to (user, bytes, ended_at), None while it runs."""

    def __init__(self, jobs: dict[str, tuple[str, int, float] | None]) -> None:
        self.jobs = jobs
        self.told: dict[str, str] = {}

    def now(self) -> float:
        return NOW

    def unfinished(self) -> set[str]:
        return {id for id, end in self.jobs.items() if end is None}

    def kept_results(self) -> list[tuple[str, str, str, int, float]]:
        ended = [(id, end) for id, end in self.jobs.items() if end and id not in self.told]
        return [(id, end[0], f"results/{id}-1", *end[1:]) for id, end in sorted(ended, key=lambda item: item[1][2])]

    def expire(self, job: str, description: str) -> bool:
        self.told[job] = description
        return True


def job_id(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(tmp_path)


def store(objects: FolderObjects, tmp_path: Path, name: str, stored_at: float = NOW - DAY) -> None:
    objects.write(name, b"x")
    os.utime(tmp_path / name, (stored_at, stored_at))


def test_payloads_go_when_their_job_has_ended_and_results_stay(objects: FolderObjects, tmp_path: Path) -> None:
    running, done = job_id(1), job_id(2)
    ledger = Ledger({running: None, done: ("ada", 1, NOW - DAY)})
    for name in (f"payloads/{running}", f"payloads/{done}", f"results/{done}-1"):
        store(objects, tmp_path, name)
    assert sweep(ledger, objects, 7 * DAY, lambda _: 100) == 1
    left = [found.name for kind in ("payloads", "results") for found in objects.listing(kind)]
    assert left == [f"payloads/{running}", f"results/{done}-1"]
    assert ledger.told == {}


def test_results_past_their_time_go_and_their_owners_are_told(objects: FolderObjects, tmp_path: Path) -> None:
    old, young = job_id(1), job_id(2)
    ledger = Ledger({old: ("ada", 1, NOW - 8 * DAY), young: ("ada", 1, NOW - 6 * DAY)})
    for id in (old, young):
        store(objects, tmp_path, f"results/{id}-1")
    assert sweep(ledger, objects, 7 * DAY, lambda _: 100) == 1
    assert [found.name for found in objects.listing("results")] == [f"results/{young}-1"]
    assert "kept for 7 days" in ledger.told[old]
    assert sweep(ledger, objects, 7 * DAY, lambda _: 100) == 0


def test_what_no_job_speaks_for_goes_when_it_is_old(objects: FolderObjects, tmp_path: Path) -> None:
    done = job_id(1)
    ledger = Ledger({done: ("ada", 1, NOW - DAY)})
    store(objects, tmp_path, f"results/{done}-1")
    store(objects, tmp_path, f"results/{done}-2")  # of an attempt that lost its claim
    store(objects, tmp_path, f"payloads/{job_id(7)}", stored_at=NOW - 60)  # its job is about to be submitted
    assert sweep(ledger, objects, 7 * DAY, lambda _: 100) == 1
    assert objects.stat(f"results/{done}-1").bytes == 1
    assert objects.stat(f"payloads/{job_id(7)}").bytes == 1


results = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 50), st.floats(0, 14 * DAY)).map(
        lambda row: Kept("job", row[0], "object", row[1], NOW - row[2])
    )
).map(lambda kept: sorted(kept, key=lambda result: result.ended_at))


@given(results, st.integers(0, 200))
def test_the_newest_that_fit_stay(kept: list[Kept], limit: int) -> None:
    going = [result for result, _ in overdue(kept, NOW, 7 * DAY, lambda _: limit)]
    for user in "abc":
        mine = [result for result in kept if result.user == user]
        stay = [result for result in mine if not any(result is other for other in going)]
        assert all(NOW - result.ended_at <= 7 * DAY for result in stay)
        assert sum(result.bytes for result in stay) <= limit or not limit or stay == mine[-1:]
        assert stay == mine[len(mine) - len(stay) :], "oldest first"
        if mine and NOW - mine[-1].ended_at <= 7 * DAY:
            assert mine[-1] in stay


def test_everybody_has_room_of_their_own_and_is_told_how_much() -> None:
    kept = [
        Kept(job, user, job, 60, NOW - age) for job, user, age in (("a", "ada", 3), ("b", "bob", 2), ("c", "ada", 1))
    ]
    kept += [Kept(job, "bob", job, 60, NOW) for job in "d"]
    ((gone, why),) = overdue(kept, NOW, 7 * DAY, lambda user: {"ada": 100, "bob": 0}[user])
    assert gone.job == "a"
    assert "of which 100 bytes are kept" in why
