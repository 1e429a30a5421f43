"""What the dispatcher lets a user run, by the groups that came with the user's jobs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from edif_backend.dispatch.standing import Standing
from edif_backend.jobs import Policy, Submission, open_jobs

LIMITS = """
[limits.groups.seminar]
running_jobs = 3
weight = 4
[limits.users.grace]
running_jobs = 1
"""


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standing:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    (tmp_path / "edif.toml").write_text(LIMITS)
    jobs = open_jobs(tmp_path / "jobs.sqlite")
    for user, groups in (("ada", ("seminar",)), ("grace", ("seminar",)), ("mallory", ("other",))):
        jobs.submit(Submission(user, user, "", "model", "key", compress=False, env={}, payload_bytes=1, groups=groups))
    known = Standing(jobs, Policy(tmp_path / "edif.toml", jobs))
    known.look(["ada", "grace", "mallory"])
    return known


def test_a_members_weight_and_running_jobs_are_those_of_the_group(standing: Standing) -> None:
    assert (standing.weight("ada"), standing.most("ada")) == (4, 3)
    assert (standing.weight("grace"), standing.most("grace")) == (4, 1)  # what is said of a user alone goes before
    assert "3 jobs of yours run" in standing.held_back("ada", 3)
    assert standing.held_back("ada", 2) == ""


def test_others_have_what_everybody_has(standing: Standing) -> None:
    assert (standing.weight("mallory"), standing.most("mallory")) == (1, math.inf)
    assert standing.held_back("mallory", 100) == ""
