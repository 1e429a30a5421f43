"""The embedded jobs database: one SQLite file, shared by the processes of one machine."""

from __future__ import annotations

import functools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from sqlalchemy import URL, Connection, Executable, NullPool, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from edif_backend.errors import NotServing
from edif_backend.jobs.bell import Bell, Bells, SocketBell
from edif_backend.jobs.database import Answer, AnyRow, Change, Database
from edif_backend.jobs.prepared import Prepared, Rows
from edif_backend.jobs.upgrade import upgrade

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: How long one process waits for another that writes, and pauses before it tries again.
_PATIENCE_S, _PAUSE_S = 10, 0.5


class SqliteDatabase(Database):
    """SQLite with a write-ahead log: readers and the one writer do not wait for each other.

    Args:
        file: the database, made if missing.
        bells: folder of the bells' sockets; None for a process that neither rings nor listens.
        patient: once it is open, wait for ever while it cannot be used.
    """

    near = True

    def __init__(self, file: Path, bells: Path | None, *, patient: bool = False) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._bells_folder = bells
        self._bells = Bells(bells) if bells else None
        self._patient = patient
        engine = create_engine(
            URL.create("sqlite", database=str(file)),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",  # transactions are begun and ended below, in as many words
            connect_args={"timeout": _PATIENCE_S, "check_same_thread": False},
            hide_parameters=True,
        )
        with _translated():
            connection = engine.connect()
            _write_ahead(connection)
            # With WAL, NORMAL loses nothing when a process dies; only a power cut may take the last commits.
            connection.exec_driver_sql("PRAGMA synchronous = NORMAL")
            upgrade(connection, "BEGIN IMMEDIATE", "INTEGER PRIMARY KEY AUTOINCREMENT")
            self._writing = _Connection(connection)
            # Of its own, so that nobody who reads waits for one here who waits for another process that writes.
            self._reading = _Connection(engine.connect())

    def change(self, work: Callable[[Change], T], *ring: str, soon: str = "") -> T:
        """See :meth:`Database.change`."""
        answer = self._again(self._writing, lambda: self._change(work))
        if self._bells:
            for role in ring:
                self._bells.ring(role)
            if soon:
                self._bells.ring(soon, soft=True)
        return answer

    def _change(self, work: Callable[[Change], T]) -> T:
        # At once and not at the first write: a reader that becomes a writer may be refused.
        driver = self._writing.driver
        driver.execute("BEGIN IMMEDIATE")
        try:
            change = Change(self._writing.execute, sqlite.insert)
            answer = work(change)
            change.write_events()
            driver.execute("COMMIT")
        except BaseException:
            if driver.in_transaction:  # a full disk may have ended it already
                driver.execute("ROLLBACK")
            raise
        return answer

    def read(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[AnyRow]:
        """See :meth:`Database.read`."""
        return self._again(self._reading, lambda: self._reading.execute(statement, values).fetchall())

    def _again(self, connection: _Connection, use: Callable[[], T]) -> T:
        while True:
            try:
                with connection.lock, _translated():
                    return use()
            except NotServing as error:
                if not self._patient:
                    raise
                log.error("waiting for the jobs database", reason=str(error))
                time.sleep(_PAUSE_S)

    def bell(self, role: str) -> Bell:
        """See :meth:`Database.bell`."""
        assert self._bells_folder
        return SocketBell(self._bells_folder, role)

    def close(self) -> None:
        """See :meth:`Database.close`."""
        self._writing.close()
        self._reading.close()
        if self._bells:
            self._bells.close()


class _Connection:
    """One connection, for one thread at a time."""

    def __init__(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self.driver = driver
        self.lock = threading.Lock()
        self._connection = connection

    def execute(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> Answer:
        """Statements that come with values were built once, and so is what it takes to run them."""
        if values is None:
            return self._connection.execute(statement)
        if isinstance(values, Mapping):
            return _prepared(statement, tuple(values)).run(self.driver, values)
        _prepared(statement, tuple(values[0])).run_each(self.driver, values)
        return Rows([], len(values))

    def close(self) -> None:
        """Give it back."""
        self._connection.close()


@functools.lru_cache(256)
def _prepared(statement: Executable, names: tuple[str, ...]) -> Prepared:
    return Prepared(statement, names)


def _write_ahead(connection: Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait by itself while others do the same to a new file."""
    ends_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError:
            if time.monotonic() > ends_at:
                raise
            time.sleep(_PAUSE_S / 10)
        else:
            return


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as error:
        reason = getattr(error, "orig", error)
        raise NotServing(
            f"The jobs database cannot be used ({reason}); nothing changed. Tell the operator, then retry."
        ) from error
