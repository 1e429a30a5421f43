"""A jobs database of any version opens in this one, or is refused with a sentence; nothing in it is lost."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from edif_backend.errors import NotServing, SetupFailed
from edif_backend.jobs import Submission, open_jobs
from edif_protocol.wire import State

NEXT = Submission("e" * 32, "ada", "", "edif/tiny-gpt2", "key", compress=False, env={}, payload_bytes=7)


@pytest.fixture
def first_version(tmp_path: Path) -> Path:
    file = tmp_path / "jobs.sqlite"
    connection = sqlite3.connect(file)
    connection.executescript(Path(__file__).with_name("jobs_v1.sql").read_text(encoding="utf-8"))
    connection.close()
    return file


def test_the_first_version_is_upgraded_and_keeps_what_it_had(first_version: Path) -> None:
    jobs = open_jobs(first_version)
    done, failed, running, waiting = (jobs.job(letter * 32) for letter in "abcd")
    assert None not in [done, failed, running, waiting]
    assert (done.state, done.user, done.compress, done.result, done.result_bytes, done.meta) == (
        State.COMPLETED,
        "ada",
        True,
        "results/a-1",
        42,
        {"seconds": {"run": 0.5}},
    )
    assert (failed.state, failed.description) == (State.ERROR, "ZeroDivisionError")
    assert done.env == {"attn_implementation": "sdpa"}
    assert [event.description for event in jobs.events_after(0) if event.kind == "LOG"] == ["hello 'wörld'"]
    assert jobs.deployments()["edif/tiny-gpt2"].state == "RUNNING"

    last = jobs.last_event()
    assert jobs.complete(running.id, "dispatcher", 1, "results/c-1", 1, {})  # its claim goes on
    assert [job.id for job in jobs.claim("dispatcher", {"edif/tiny-gpt2": [waiting.user] * 5}, 10)] == [waiting.id]
    jobs.submit(NEXT)
    assert [job.id[0] for job in jobs.newest()] == ["e", "d", "c", "b", "a"]
    assert all(event.id > last for event in jobs.events_after(last))
    jobs.close()


def test_opening_again_changes_nothing(first_version: Path) -> None:
    open_jobs(first_version).close()
    connection = sqlite3.connect(first_version)
    before = list(connection.iterdump())
    open_jobs(first_version).close()
    assert list(connection.iterdump()) == before
    assert any("jobs_with_result" in line for line in before)
    connection.close()


def test_many_processes_open_an_old_database_at_once(first_version: Path) -> None:
    open_at_once(first_version, "")
    jobs = open_jobs(first_version)
    assert len(jobs.newest()) == 4
    jobs.close()


def test_many_processes_open_a_new_database_at_once(tmp_path: Path, postgres) -> None:
    open_at_once(tmp_path / "jobs.sqlite", "")
    open_at_once(tmp_path / "unused.sqlite", postgres.new_database())


def open_at_once(file: Path, url: str) -> None:
    script = (
        "import sys, pathlib, edif_backend.jobs as jobs, pydantic; print(flush=True); sys.stdin.read();"
        "jobs.open_jobs(pathlib.Path(sys.argv[1]), url=pydantic.SecretStr(sys.argv[2])).close()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(file), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in started:
        process.stdout.readline()  # all are ready ...
    for process in started:
        process.stdin.close()  # ... and go
        process.stdin = None
    assert [process.communicate(timeout=60)[1] for process in started] == [""] * 4


def test_a_newer_database_is_refused_with_a_sentence(tmp_path: Path, postgres) -> None:
    newer = "INSERT INTO migrations (number, name, at) VALUES (99, 'later', 0)"
    file, url = tmp_path / "jobs.sqlite", postgres.new_database()
    open_jobs(file).close()
    open_jobs(file, url=SecretStr(url)).close()
    with sqlite3.connect(file) as connection:
        connection.execute(newer)
    connection.close()
    with psycopg.connect(url) as server:
        server.execute(newer)
    with pytest.raises(SetupFailed, match="used by a newer eDIF"):
        open_jobs(file)
    with pytest.raises(SetupFailed, match="used by a newer eDIF"):
        open_jobs(file, url=SecretStr(url))


def test_tables_of_another_program_are_left_alone(postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    with psycopg.connect(url) as server:
        server.execute("CREATE TABLE jobs (title text)")
    with pytest.raises(SetupFailed, match="a database of its own"):
        open_jobs(tmp_path / "unused", url=SecretStr(url))
    with psycopg.connect(url) as server:
        assert server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (1,)


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/jobs"])
def test_a_wrong_url_is_refused_with_a_sentence(tmp_path: Path, url: str) -> None:
    with pytest.raises(SetupFailed, match="EDIF_BACKEND_DATABASE_URL"):
        open_jobs(tmp_path / "unused", url=SecretStr(url))


def test_a_full_disk_is_a_refusal_and_harms_nothing(tmp_path: Path) -> None:
    jobs = open_jobs(tmp_path / "jobs.sqlite")
    jobs.submit(NEXT)
    sql = jobs._database._writing._connection.exec_driver_sql
    pages = sql("PRAGMA page_count").scalar_one()
    sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(NotServing, match="disk is full"):
        jobs.submit(replace(NEXT, id="f" * 32, env={"x": "y" * 100_000}))
    assert jobs.job("f" * 32) is None
    sql("PRAGMA max_page_count = 100000")
    assert jobs.submit(replace(NEXT, id="f" * 32)).state is State.QUEUED
    jobs.close()


def test_a_claim_does_not_go_through_all_that_its_user_ever_ran(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    steps = [0]

    def of_a_claim() -> int:
        job = replace(NEXT, id=uuid.uuid4().hex)
        jobs.submit(job)
        before = steps[0]
        (claimed,) = jobs.claim("dispatcher", {job.model: [job.user]}, 10)
        assert claimed.id == job.id
        taken = steps[0] - before
        assert jobs.complete(job.id, "dispatcher", 1, "results/x-1", 1, {})
        return taken

    jobs = open_jobs(file)
    driver = jobs._database._writing.driver
    driver.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 1)
    first = of_a_claim()
    for _ in range(100):
        of_a_claim()
    assert of_a_claim() < 1.2 * first
    jobs.close()
