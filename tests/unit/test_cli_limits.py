"""``edif limits``, ``edif reserve`` and ``edif reservations``: what the operator writes and reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edif_backend.cli.main import app
from edif_backend.errors import FabricError


class Shell:
    """The operator's shell, in an installation of its own."""

    def run(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    def refusal(self, *arguments: str) -> str:
        with pytest.raises(FabricError) as caught:
            CliRunner().invoke(app, arguments, catch_exceptions=False)
        return str(caught.value)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    (tmp_path / "edif.toml").write_text("[limits.groups.staff]\nweight = 3\nqueued_jobs = 9\n")
    return Shell()


def test_what_is_set_is_shown_over_the_file_and_taken_back(shell: Shell) -> None:
    shell.run("limits", "set", "--group", "staff", "queued_jobs=5")
    shell.run("limits", "set", "--group", "staff", "running_jobs=2")  # what was set before stays
    shell.run("limits", "set", "--user", "ada", "weight=0.5")
    said = json.loads(shell.run("limits", "--json"))
    assert said["group:staff"] == {"weight": 3.0, "queued_jobs": 5, "running_jobs": 2}
    assert said["user:ada"] == {"weight": 0.5}
    assert said["everybody"]["queued_jobs"] == 1000
    ada = json.loads(shell.run("limits", "--user", "ada", "--json"))
    assert ada["ada"]["weight"] == 0.5
    assert ada["use"]["queued_jobs"] == 0
    shell.run("limits", "clear", "--group", "staff")
    assert json.loads(shell.run("limits", "--json"))["group:staff"] == {"weight": 3.0, "queued_jobs": 9}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["set", "queued_jobs=5"], "--group NAME or --user NAME"),
        (["set", "--group", "a", "--user", "b", "queued_jobs=5"], "--group NAME or --user NAME"),
        (["set", "--group", "a", "queued=5"], "write NAME=VALUE, of weight"),
        (["set", "--group", "a", "queued_jobs=many"], "queued_jobs: "),
        (["set", "--group", "a", "weight=0"], "greater than 0"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_sentence(shell: Shell, arguments: list[str], says: str) -> None:
    assert says in shell.refusal("limits", *arguments)
    assert "group:a" not in json.loads(shell.run("limits", "--json"))


def test_a_lab_hour_is_reserved_listed_and_taken_back(shell: Shell) -> None:
    shell.run("reserve", "cs101", "--from", "2999-01-31 10:00", "--for", "90m", "--weight", "5")
    shell.run("reserve", "staff")
    now, later = json.loads(shell.run("reservations", "--json"))
    assert (later["group"], later["weight"], later["ends_at"] - later["starts_at"]) == ("cs101", 5, 5400)
    assert (now["group"], now["weight"], now["ends_at"] - now["starts_at"]) == ("staff", 4, 3600)
    assert "cs101" in shell.run("reservations")
    shell.run("reservations", "cancel", later["id"])
    assert [found["group"] for found in json.loads(shell.run("reservations", "--json"))] == ["staff"]
    assert "edif reservations" in shell.refusal("reservations", "cancel", later["id"])
    assert "is over" in shell.refusal("reserve", "cs101", "--from", "2001-01-01 10:00")
    assert "not understood" in shell.refusal("reserve", "cs101", "--from", "tomorrow")
    assert "--for '90'" in shell.refusal("reserve", "cs101", "--for", "90")
