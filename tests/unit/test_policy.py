"""What counts for a user, of what is said for everybody, for groups and for the user alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from edif_backend.errors import SetupFailed
from edif_backend.jobs import Jobs, Policy, Reservation, open_jobs
from edif_backend.jobs.policy import merged
from edif_backend.settings import Limits, LimitSettings

NOW = 1_000_000.0


class Scene:
    """An installation's edif.toml and jobs database, and a clock."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = NOW
        self.file = folder / "edif.toml"
        monkeypatch.setenv("EDIF_HOME", str(folder))
        self.jobs: Jobs = open_jobs(folder / "jobs.sqlite", clock=lambda: self.now)

    def write(self, text: str) -> None:
        before = self.file.stat().st_mtime_ns if self.file.exists() else 0
        self.file.write_text(text)
        os.utime(self.file, ns=(before + 1_000_000,) * 2)
        self.now += 2  # what is known may be a second old

    def policy(self) -> Policy:
        return Policy(self.file, self.jobs)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(tmp_path, monkeypatch)


def test_without_a_file_everybody_has_the_defaults(scene: Scene) -> None:
    assert scene.policy().limits("ada", ["staff"]) == Limits()
    assert scene.policy().weight("ada", ["staff"]) == 1


def test_of_several_groups_the_most_generous_value_counts_field_by_field(scene: Scene) -> None:
    scene.write(
        """
        [limits]
        queued_jobs = 50
        stored_bytes = 7
        [limits.groups.students]
        queued_jobs = 5
        running_jobs = 1
        time_limit_s = 60
        [limits.groups.staff]
        queued_jobs = 20
        running_jobs = 0
        weight = 3
        [limits.users.bob]
        queued_jobs = 2
        """
    )
    policy = scene.policy()
    both = policy.limits("ada", ["students", "staff", "nobody-said-anything"])
    assert (both.queued_jobs, both.running_jobs, both.time_limit_s, both.weight) == (20, 0, 60, 3)
    assert both.stored_bytes == policy.limits("eve", []).stored_bytes == 7
    assert policy.limits("eve", []).queued_jobs == 50
    assert policy.limits("ada", ["students"]).queued_jobs == 5  # a group may have less than everybody
    assert policy.limits("bob", ["staff"]).queued_jobs == 2  # what is said of a user counts, whatever the groups have
    assert policy.limits("bob", ["staff"]).weight == 3


names = st.sampled_from(sorted(Limits.model_fields))
tables = st.dictionaries(names, st.integers(1, 9), max_size=4)


@given(tables, st.lists(tables, max_size=3), tables)
def test_a_value_is_the_users_own_or_the_best_of_the_groups_or_everybodys(
    everybody: dict[str, int], groups: list[dict[str, int]], own: dict[str, int]
) -> None:
    found = merged(Limits(**everybody), groups, own)
    for name in set(Limits.model_fields) - {"max_time_limit_s"}:
        said = [group[name] for group in groups if name in group]
        fallback = getattr(Limits(**everybody), name)
        assert getattr(found, name) == own.get(name, max(said, default=fallback))
    assert found.max_time_limit_s >= found.time_limit_s


def test_the_file_is_followed_and_an_invalid_one_changes_nothing(scene: Scene) -> None:
    policy = scene.policy()
    scene.write("[limits]\nqueued_jobs = 3\n")
    assert policy.limits("ada", []).queued_jobs == 3
    scene.write("[limits]\nqueud_jobs = 4\n")
    assert policy.limits("ada", []).queued_jobs == 3
    assert "queud_jobs" in policy.problem
    scene.write("[limits]\nqueued_jobs = 5\n")
    assert (policy.limits("ada", []).queued_jobs, policy.problem) == (5, "")


@pytest.mark.parametrize("text", ["[limits]\nqueued_jobs = -1\n", "[limits.groups.a]\nweight = 0\n", "[limits\n"])
def test_a_file_that_is_not_valid_to_begin_with_is_refused(scene: Scene, text: str) -> None:
    scene.write(text)
    with pytest.raises(SetupFailed, match=r"edif\.toml"):
        scene.policy()


def test_what_a_command_has_set_counts_over_the_file_until_it_is_taken_back(scene: Scene) -> None:
    scene.write("[limits.groups.staff]\nqueued_jobs = 3\nrunning_jobs = 2\n")
    policy = scene.policy()
    scene.jobs.set_limits("group:staff", {"queued_jobs": 9})
    scene.jobs.set_limits("user:bob", {"weight": 2.5})
    assert policy.limits("ada", ["staff"]).queued_jobs == 9
    assert policy.limits("ada", ["staff"]).running_jobs == 2
    assert policy.weight("bob", []) == 2.5
    scene.jobs.set_limits("group:staff", {})
    scene.now += 2
    assert policy.limits("ada", ["staff"]).queued_jobs == 3
    with pytest.raises(ValidationError):
        scene.jobs.set_limits("group:staff", {"queud_jobs": 9})


def test_a_reservation_lifts_the_weight_of_its_group_for_its_time_alone(scene: Scene) -> None:
    scene.write("[limits.groups.staff]\nweight = 9\n")
    scene.jobs.reserve(Reservation("r1", "course", 4.0, NOW + 100, NOW + 200))
    policy = scene.policy()
    assert policy.weight("ada", ["course"]) == 1
    scene.now = NOW + 100
    assert policy.weight("ada", ["course"]) == 4
    assert policy.weight("bob", []) == 1
    assert policy.weight("eve", ["course", "staff"]) == 9  # it never takes anything away
    assert [found.id for found in policy.reserved_now()] == ["r1"]
    scene.now = NOW + 200
    assert policy.weight("ada", ["course"]) == 1
    assert policy.coming(["course"]) == []
    scene.now = NOW + 150
    assert scene.jobs.unreserve("r1")
    assert not scene.jobs.unreserve("r1")
    scene.now += 2
    assert policy.weight("ada", ["course"]) == 1


def test_variables_count_over_the_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.write("[limits]\nqueued_jobs = 3\n")
    monkeypatch.setenv("EDIF_LIMITS_QUEUED_JOBS", "4")
    assert LimitSettings().queued_jobs == 4
    assert scene.policy().limits("ada", []).queued_jobs == 4
