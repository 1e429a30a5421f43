"""What waiting jobs are told: their place and why they stand still, and no more than there is to say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edif_backend.dispatch.fairness import FairShare
from edif_backend.dispatch.telling import Scene, Telling
from edif_backend.jobs import Job, Jobs, Submission, open_jobs
from edif_protocol.wire import State

MODEL = "x/model"


class Users:
    """Everybody's standing: weight 1 and no limits, but for what a test says."""

    def __init__(self) -> None:
        self.held: dict[str, str] = {}
        self.reserved = ""
        self.mosts: dict[str, float] = {}

    def weight(self, user: str) -> float:
        return 1.0

    def most(self, user: str) -> float:
        return self.mosts.get(user, math.inf)

    def held_back(self, user: str, running: int) -> str:
        return self.held.get(user, "")

    def reserved_for_others(self, user: str) -> str:
        return self.reserved


class Room:
    """A jobs table, a clock, a model with two slots, and the telling."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_000_000.0
        self.jobs: Jobs = open_jobs(folder / "jobs.sqlite", clock=lambda: self.now)
        self.users = Users()
        self.telling = Telling(self.jobs, self.users)  # type: ignore[arg-type]
        self.running: dict[str, list[float]] = {"eve": [0.0, 0.0]}
        self.load_s: float | None = None
        self.share = FairShare()
        self.share.settle("eve", 60.0)
        self._sent = 0
        self.jobs.deploy(MODEL, "RUNNING", "", 1)

    def send(self, user: str, count: int = 1) -> list[str]:
        ids = []
        for _ in range(count):
            self._sent += 1
            ids.append(f"{self._sent:032d}")
            self.jobs.submit(Submission(ids[-1], user, "s", MODEL, "k", compress=False, env={}, payload_bytes=1))
        return ids

    def look(self, after_s: float) -> int:
        self.now += after_s
        of_user = {user: len(times) for user, times in self.running.items()}
        return self.telling.look({MODEL: Scene(self.share, 2, self.running, self.load_s, of_user)})

    def job(self, id: str) -> Job:
        found = self.jobs.job(id)
        assert found
        return found

    def words(self, id: str) -> list[str]:
        return [event.description for event in self.jobs.events_after(0) if event.job == id][2:]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_who_waits_a_moment_is_told_nothing_and_then_their_place(room: Room) -> None:
    first, second = room.send("ada", 2)
    assert room.look(after_s=1) == 0
    assert room.look(after_s=1) == 2
    assert room.words(first) == ["Next to start, in about 60 s."]
    assert room.words(second) == ["1 job starts before this one; it starts in about 60 s."]
    assert room.job(second).state is State.QUEUED
    assert room.job(second).meta == {"position": 1, "starts_at": pytest.approx(room.now + 60)}
    assert room.jobs.events_after(0)[-1].kind == "QUEUED"


def test_the_place_is_the_one_that_the_turns_give(room: Room) -> None:
    ids = room.send("ada", 5)
    (late,) = room.send("bob")
    room.look(after_s=2)
    assert room.job(late).meta["position"] == 1  # after one of ada's, though all of them came before
    assert [room.job(id).meta["position"] for id in ids] == [0, 2, 3, 4, 5]


def test_a_job_hears_of_good_steps_and_not_of_every_one(room: Room) -> None:
    ids = room.send("ada", 40)
    room.look(after_s=2)
    last = ids[-1]
    for left in range(39):
        room.jobs.claim("d", {MODEL: ["ada"]}, lease_s=10)
        room.running = {"eve": [0.0, 0.0]}
        room.look(after_s=2.1)
        assert left or len(room.words(last)) == 1
    heard = [int(words.split(" ")[0]) for words in room.words(last)[:-1]]
    assert heard == sorted(heard, reverse=True)
    assert 6 <= len(heard) <= 12  # of 39 steps
    assert room.words(last)[-1].startswith("Next to start, ")


@pytest.mark.parametrize(
    ("running", "says"),
    [
        ({"eve": [0.0], "bob": [0.0]}, "All 2 slots are busy with jobs of 2 users. Next to start, "),
        ({"eve": [0.0, 0.0]}, "All 2 slots are busy with jobs of 1 user. Next to start, "),
        ({"ada": [0.0, 0.0]}, "All 2 slots are busy with jobs of yours. Next to start, "),
    ],
)
def test_who_has_stood_still_is_told_why_and_once(room: Room, running: dict[str, list[float]], says: str) -> None:
    (id,) = room.send("ada")
    room.running = running
    room.look(after_s=2)
    assert room.look(after_s=5) == 0
    room.look(after_s=7)
    assert room.words(id)[-1].startswith(says)
    assert room.look(after_s=2.5) == room.look(after_s=2.5) == 0


def test_a_users_own_limit_and_a_reservation_are_named(room: Room) -> None:
    (mine,), (other,) = room.send("ada"), room.send("bob")
    room.users.held["ada"] = "2 jobs of yours run, as many as may at once."
    room.users.reserved = "The group cs101 has reserved a larger share for 40 min more."
    room.look(after_s=2)
    room.look(after_s=12)
    assert room.words(mine)[-1].startswith("2 jobs of yours run, as many as may at once. Next to start")
    assert "busy with jobs of 1 user. The group cs101 has reserved a larger share" in room.words(other)[-1]


def test_who_may_run_nothing_today_has_no_place_and_knows_why(room: Room) -> None:
    (id,) = room.send("ada")
    room.users.mosts["ada"], room.users.held["ada"] = 0, "Your 10 device-seconds of today are used up."
    room.look(after_s=2)
    assert room.words(id) == ["Your 10 device-seconds of today are used up."]
    assert room.job(id).meta == {"position": None, "starts_at": None}
    assert room.look(after_s=20) == 0


def test_while_the_model_is_loaded_a_job_learns_its_place_without_a_word(room: Room) -> None:
    (id,) = room.send("ada")
    room.jobs.deploying(MODEL, State.DEPLOYING, "Loading the weights.")
    room.running, room.load_s = {}, 30.0
    room.look(after_s=2)
    assert room.words(id) == ["Loading the weights."]
    assert room.job(id).description == "Loading the weights."
    assert room.job(id).meta == {"position": 0, "starts_at": room.now + 30}
    assert room.jobs.deployments()[MODEL].wait_s == pytest.approx(30)


def test_a_job_that_is_claimed_meanwhile_hears_nothing_more(room: Room) -> None:
    (id,) = room.send("ada")
    waiting = room.jobs.waiting_jobs()
    (job,) = room.jobs.claim("d", {MODEL: ["ada"]}, lease_s=10)
    room.jobs.waiting_jobs = lambda: waiting  # type: ignore[method-assign] - read a moment before the claim
    room.look(after_s=3)
    assert room.jobs.events_after(0)[-1].kind == "DISPATCHED"
    assert room.job(id).meta == {}
    assert job.id == id


def test_thousands_are_told_bit_by_bit_and_those_in_front_first(room: Room) -> None:
    ids = room.send("ada", 450)
    assert [room.look(after_s=2.1) for _ in range(4)] == [200, 200, 50, 0]
    firsts = [event.job for event in room.jobs.events_after(900) if event.description][:200]
    assert firsts == ids[:200]


def test_what_a_newcomer_would_wait_is_kept_when_it_changes(room: Room) -> None:
    room.look(after_s=1)
    assert room.jobs.deployments()[MODEL].wait_s == pytest.approx(60)
    room.running = {}
    room.look(after_s=1)
    assert room.jobs.deployments()[MODEL].wait_s == 0
