"""The register of courses: a small SQLite database, opened and brought up to date.

Written by the course service and the ``edif course`` command, read by the hub; each opens its own.  Every change is one
short transaction that begins by taking the database for writing, so two processes never work on what the other changes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edif_courses.errors import NotNow

_MIGRATIONS = Path(__file__).parent / "migrations"
_PATIENCE_S = 10.0


class Register:
    """An open register; may be used from several threads, one at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, _PATIENCE_S, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        self._lock = threading.RLock()
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA foreign_keys = ON")
        path.chmod(0o600)
        self._migrate()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def read(self, query: str, **values: Any) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it happens, or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def write(self, statement: str, values: Mapping[str, Any]) -> int:
        """One statement as a transaction of its own; the number of rows it has changed."""
        with self.change() as connection:
            return connection.execute(statement, values).rowcount

    def _migrate(self) -> None:
        steps = sorted(_MIGRATIONS.glob("*.sql"))
        with self.change() as connection:
            done: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if done > len(steps):
                raise NotNow("The register of courses was written by a newer eDIF: update this one before using it.")
            for number, step in enumerate(steps[done:], done + 1):
                for statement in _statements(step.read_text(encoding="utf-8")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number:d}")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script (``executescript`` would end the transaction around it)."""
    draft = ""
    for line in script.splitlines(keepends=True):
        draft += line
        if sqlite3.complete_statement(draft):
            yield draft
            draft = ""
