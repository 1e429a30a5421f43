"""SQLAlchemy's statements, run on SQLite without SQLAlchemy: their text, parameters and columns are worked out once.

Used by :mod:`~edif_backend.jobs.sqlite` for the statements that every job needs.  One text of a statement serves both
databases, and what SQLAlchemy does around each call of it is left out: it was more than half of the processor time of
a job's transactions.
"""

from __future__ import annotations

import sqlite3
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Dialect, Executable
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from edif_backend.jobs.database import AnyRow

_Process = Callable[[Any], Any]

_DIALECT: Dialect = SQLiteDialect_pysqlite(paramstyle="named")


class Rows:
    """What a statement gives: the part of a ``CursorResult`` that is used here."""

    def __init__(self, rows: list[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount  #: of those that were changed

    def __iter__(self) -> Iterator[AnyRow]:
        return iter(self._rows)

    def first(self) -> AnyRow | None:
        """The first row, if there is one."""
        return self._rows[0] if self._rows else None

    def fetchall(self) -> Sequence[AnyRow]:
        """All of them."""
        return self._rows

    def scalar(self) -> Any:
        """The first value of the first row, None where there is none."""
        return self._rows[0][0] if self._rows else None


class Prepared:
    """One statement, as ``sqlite3`` takes it and with what is between its values and Python's."""

    def __init__(self, statement: Executable, names: Sequence[str]) -> None:
        compiled: Any = statement.compile(dialect=_DIALECT, column_keys=list(names))  # type: ignore[attr-defined]
        if compiled.post_compile_params:
            raise ValueError("a list among the values makes another text each time")
        self._text = str(compiled)
        kinds = {name: parameter.type.dialect_impl(_DIALECT) for name, parameter in compiled.binds.items()}
        bound = {name: kind.bind_processor(_DIALECT) for name, kind in kinds.items()}
        self._given = [(name, process) for name, process in bound.items() if name in names]
        fixed = [(name, parameter.value) for name, parameter in compiled.binds.items() if name not in names]
        self._fixed = {name: process(value) if (process := bound[name]) else value for name, value in fixed}
        self._columns = list(getattr(statement, "exported_columns", ()))
        make: Any = namedtuple  # noqa: PYI024 - of columns that are known here alone
        row = make("Row", [column.name for column in self._columns], rename=True)
        self._row = row._make
        found = [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) for column in self._columns]
        self._results = [(at, process) for at, process in enumerate(found) if process]

    def run(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> Rows:
        """Run it with these values."""
        cursor = connection.execute(self._text, self._bound(values))
        rows: list[Any] = cursor.fetchall() if self._columns else []
        if self._results:
            rows = [self._processed(row) for row in rows]
        return Rows(list(map(self._row, rows)), cursor.rowcount)

    def run_each(self, connection: sqlite3.Connection, values: Sequence[Mapping[str, Any]]) -> None:
        """Run it with each of these."""
        connection.executemany(self._text, [self._bound(each) for each in values])

    def _bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        bound = self._fixed.copy()
        for name, process in self._given:
            bound[name] = process(values[name]) if process else values[name]
        return bound

    def _processed(self, row: tuple[Any, ...]) -> list[Any]:
        values = list(row)
        for at, process in self._results:
            values[at] = process(values[at])
        return values
