"""The jobs table in each of its databases.

PostgreSQL comes out of a wheel and is started once a run: no administrator, no port, only a socket in a private folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.conftest import skip
from tests.services import NotInstalled, PostgresServer, postgres_server

from edif_backend.jobs import Jobs, open_jobs


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[Callable[[], PostgresServer]]:
    """Starts servers, each empty, and ends them."""
    with ExitStack() as stack:

        def make() -> PostgresServer:
            try:
                return stack.enter_context(postgres_server())
            except NotInstalled as missing:
                skip(missing)

        yield make


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
