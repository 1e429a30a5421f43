"""What only a server on the network can do to the jobs table: connections that end, at any moment."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from edif_backend.errors import NotServing
from edif_backend.jobs import Jobs, Submission, open_jobs
from edif_backend.jobs import postgres as postgres_module
from edif_protocol.wire import State

MODEL = "edif/tiny-gpt2"


def submission(number: int) -> Submission:
    return Submission(f"{number:032d}", "ada", "", MODEL, "key", compress=False, env={}, payload_bytes=1)


class Cut:
    """A way to the server that is cut at the next COMMIT: before the server hears it, or after it has done it."""

    def __init__(self, server_folder: Path, folder: Path) -> None:
        self._server = str(server_folder / ".s.PGSQL.5432")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(folder / ".s.PGSQL.5432"))
        self._door.listen()
        self.at: str | None = None  #: ``before`` or ``after`` the commit
        self.meanwhile: Callable[[], object] = lambda: None  #: done between a cut before the commit and its being felt
        self.cuts = 0
        self._cutting = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError), client, server:
            while data := client.recv(65536):
                if self.at == "before" and b"COMMIT" in data:
                    with self._cutting:
                        self.meanwhile()
                        self._hang_up(client, server)
                    return
                if self.at == "after" and b"COMMIT" in data:
                    self.at = "answer"
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if self.at == "answer":
                    self._hang_up(client, server)
                    return
                client.sendall(data)
            with self._cutting:
                client.shutdown(socket.SHUT_RDWR)

    def _hang_up(self, *ends: socket.socket) -> None:
        self.at = None
        self.cuts += 1
        for end in ends:
            with suppress(OSError):  # the server's end may be gone
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()


@pytest.fixture
def cut(postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cut]:
    made = Cut(postgres.folder, tmp_path_factory.mktemp("pg"))
    yield made
    made.close()


@pytest.fixture
def jobs(postgres, cut: Cut, tmp_path: Path) -> Iterator[Jobs]:
    """A table whose connection goes through the cut."""
    folder = Path(cut._door.getsockname()).parent
    url = postgres.new_database().replace(str(postgres.folder), str(folder))
    table = open_jobs(tmp_path / "unused", url=SecretStr(url))
    yield table
    table.close()


def kinds(jobs: Jobs) -> list[str]:
    return [event.kind for event in jobs.events_after(0)]


@pytest.mark.parametrize("at", ["before", "after"])
def test_every_change_happens_once_when_its_commit_is_cut_off(jobs: Jobs, cut: Cut, at: str) -> None:
    cuts = itertools.count(1)

    def next_commit_is_cut() -> None:
        assert cut.cuts == next(cuts) - 1
        cut.at = at

    next_commit_is_cut()
    jobs.submit(submission(1))
    next_commit_is_cut()
    (job,) = jobs.claim("d", {MODEL: ["ada"] * 5}, lease_s=10)
    assert job.attempt == 1
    next_commit_is_cut()
    assert jobs.running(job.id, "d", 1)
    next_commit_is_cut()
    jobs.log(job.id, 1, "once")
    next_commit_is_cut()
    jobs.requeue(job.id, "d", 1, "lost", attempts=3)
    assert jobs.claim("d", {MODEL: ["ada"] * 5}, lease_s=10)[0].attempt == 2
    next_commit_is_cut()
    assert jobs.complete(job.id, "d", 2, "results/x", 1, {})
    assert cut.cuts == 6
    assert kinds(jobs) == [*"RECEIVED QUEUED DISPATCHED RUNNING LOG QUEUED DISPATCHED COMPLETED".split()]


@pytest.mark.parametrize("others", [0, 5])
def test_a_change_is_not_lost_with_the_server_that_had_not_written_it(
    new_postgres, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, others: int
) -> None:
    """A server that died gives the number of such a transaction to another one, after it began again."""
    server, folder = new_postgres(), tmp_path_factory.mktemp("pg")
    cut, url = Cut(server.folder, folder), server.new_database()

    def die() -> None:
        server.stop("immediate")
        server.start()
        with psycopg.connect(url, autocommit=True) as another:
            for _ in range(others):
                another.execute("UPDATE migrations SET at = at")

    with (
        closing(cut),
        closing(open_jobs(tmp_path / "unused", url=SecretStr(url.replace(str(server.folder), str(folder))))) as jobs,
    ):
        with psycopg.connect(url, autocommit=True) as another:
            another.execute("CHECKPOINT")
        cut.meanwhile, cut.at = die, "before"
        jobs.submit(submission(1))
        assert cut.cuts == 1
        assert kinds(jobs) == ["RECEIVED", "QUEUED"]


def test_a_connection_that_ended_is_made_again(jobs: Jobs, postgres) -> None:
    jobs.submit(submission(1))
    end_connections(postgres)
    assert jobs.job(submission(1).id) is not None
    end_connections(postgres)
    assert jobs.submit(submission(2)).state is State.QUEUED
    assert kinds(jobs) == ["RECEIVED", "QUEUED"] * 2


def end_connections(postgres) -> None:
    with psycopg.connect(postgres.url()) as server:
        ended = server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name LIKE 'edif%'"
        ).fetchall()
        assert ended


async def test_a_bell_whose_connection_ended_rings_and_works_again(jobs: Jobs, postgres) -> None:
    with jobs.bell("dispatcher") as bell:
        await bell.wait(timeout_s=60)  # connects
        end_connections(postgres)
        async with asyncio.timeout(30):
            await bell.wait(timeout_s=60)  # what rang meanwhile was missed, so it counts as a ring ...
            await bell.wait(timeout_s=60)  # ... and so does the fresh connection
            jobs.submit(submission(1))
            await bell.wait(timeout_s=60)
        await bell.wait(timeout_s=0.01)  # two rings in one commit are one


def test_jobs_go_on_when_the_server_starts_again(new_postgres, tmp_path: Path) -> None:
    server = new_postgres()
    jobs = open_jobs(tmp_path / "unused", url=SecretStr(server.new_database()))
    restarting = threading.Thread(target=lambda: (server.stop("immediate"), server.start()))
    for number in range(300):
        if number == 20:
            restarting.start()
        jobs.submit(submission(number))
    restarting.join()
    assert len(jobs.newest(limit=1000)) == 300
    assert kinds(jobs) == ["RECEIVED", "QUEUED"] * 300
    jobs.close()


def test_a_server_that_stays_away_is_a_refusal_without_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_module, "_PATIENCE_S", 0.1)
    with pytest.raises(NotServing, match="it does not answer") as refusal:
        open_jobs(tmp_path / "unused", url=SecretStr(f"postgresql://ada:geheim@/jobs?host={tmp_path}"))
    assert "geheim" not in str(refusal.value)
    assert str(tmp_path) not in str(refusal.value)


def test_callers_wait_for_a_server_together_and_a_patient_one_for_ever(
    new_postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_module, "_PATIENCE_S", 1.0)
    server = new_postgres()
    url = SecretStr(server.new_database())
    hasty, patient = open_jobs(tmp_path / "unused", url=url), open_jobs(tmp_path / "unused", url=url, patient=True)
    server.stop("immediate")
    answers: list[str] = []

    def ask(jobs: Jobs) -> None:
        try:
            answers.append("" if jobs.submit(submission(len(answers))) else "no job")
        except NotServing as error:
            answers.append(str(error))

    began = time.monotonic()
    waiting = [threading.Thread(target=ask, args=(hasty,)) for _ in range(12)]
    last = threading.Thread(target=ask, args=(patient,))
    for thread in (*waiting, last):
        thread.start()
    for thread in waiting:
        thread.join()
    assert time.monotonic() - began < 6  # one after the other it would be twelve times the patience
    assert [answer[:40] for answer in answers] == ["The jobs database cannot be used (it doe"] * 12
    assert last.is_alive()
    server.start()
    last.join(20)
    assert answers[12:] == [""]
    hasty.close()
    patient.close()
