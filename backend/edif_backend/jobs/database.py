"""What the jobs table needs of a database: changes that happen wholly or not at all, reading, and bells.

:mod:`~edif_backend.jobs.sqlite` and :mod:`~edif_backend.jobs.postgres` provide it.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import Executable, Row, Table, bindparam, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from edif_backend.jobs import schema
from edif_backend.jobs.bell import Bell

T = TypeVar("T")

#: The inserts of both databases know what to do about a row that is there already.
Insert: TypeAlias = sqlite.Insert | postgresql.Insert

AnyRow: TypeAlias = Row[*tuple[Any, ...]]

_EVENT = insert(schema.events).from_select(
    ["job", "session_id", "kind", "description", "at"],
    select(
        schema.jobs.c.id,
        schema.jobs.c.session_id,
        bindparam("event_kind", type_=schema.events.c.kind.type),
        bindparam("event_description", type_=schema.events.c.description.type),
        bindparam("event_at", type_=schema.events.c.at.type),
    ).where(schema.jobs.c.id == bindparam("of_job")),
)


# Building one of these takes longer than running it, so each is built once.


@functools.cache
def _add(insert_into: Callable[[Table], Insert], table: Table) -> Executable:
    return insert_into(table).on_conflict_do_nothing().returning(*table.primary_key)


@functools.cache
def _put(insert_into: Callable[[Table], Insert], table: Table, columns: tuple[str, ...]) -> Executable:
    (key,) = table.primary_key
    fresh = insert_into(table)
    values = {name: fresh.excluded[name] for name in columns if name != key.name}
    return fresh.on_conflict_do_update(index_elements=[key], set_=values)


@functools.cache
def _add_up(insert_into: Callable[[Table], Insert], table: Table, columns: tuple[str, ...]) -> Executable:
    fresh = insert_into(table)
    keys = [column.name for column in table.primary_key]
    sums = {name: table.c[name] + fresh.excluded[name] for name in columns if name not in keys}
    return fresh.on_conflict_do_update(index_elements=keys, set_=sums)


class Answer(Protocol):
    """What comes of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows were changed."""

    def __iter__(self) -> Iterator[AnyRow]: ...

    def first(self) -> AnyRow | None:
        """The first row, if there is one."""

    def fetchall(self) -> Sequence[AnyRow]:
        """All of them."""

    def scalar(self) -> Any:
        """The first value of the first row, None where there is none."""


class Execute(Protocol):
    """Runs one statement, with each of several sets of values if there are several."""

    def __call__(
        self, statement: Executable, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None, /
    ) -> Answer:
        """What comes of it."""


class Change:
    """One transaction under way.  Its events are written last, after every row that it changes is locked."""

    def __init__(self, execute: Execute, insert_into: Callable[[Table], Insert]) -> None:
        self._execute = execute
        self._insert = insert_into
        self._events: list[dict[str, Any]] = []

    def run(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Answer:
        """Run one statement: with ``values`` one that was built before, without one that is built for this call."""
        return self._execute(statement, values)

    def add(self, table: Table, row: Mapping[str, Any]) -> bool:
        """Add a row; False when there is one of that id already, which stays as it is."""
        return self._execute(_add(self._insert, table), row).first() is not None

    def put(self, table: Table, row: Mapping[str, Any]) -> None:
        """Add a row, or replace the one that has its key."""
        self._execute(_put(self._insert, table, tuple(row)), row)

    def add_up(self, table: Table, row: Mapping[str, Any]) -> None:
        """Add a row; when there is one of that key already, add the other columns, which are numbers, to its own."""
        self._execute(_add_up(self._insert, table, tuple(row)), row)

    def event(self, job: str, kind: str, description: str, at: float) -> None:
        """Note an event of a job."""
        self._events.append({"of_job": job, "event_kind": kind, "event_description": description, "event_at": at})

    @property
    def has_events(self) -> bool:
        """Whether any was noted."""
        return bool(self._events)

    def write_events(self) -> None:
        """Write down what was noted, in its order."""
        if self._events:
            self._execute(_EVENT, self._events)


class Database(ABC):
    """One database, used by any thread of this process, one at a time."""

    #: Whether it is read in no time, without waiting for anybody: a file of this machine.
    near = False

    @abstractmethod
    def change(self, work: Callable[[Change], T], *ring: str, soon: str = "") -> T:
        """Do ``work`` in one transaction, then ring the bells ``ring``; ``work`` may be called again from its start.

        Args:
            soon: the bell that is rung softly.

        Raises:
            NotServing: the database cannot be written; nothing changed.
        """

    @abstractmethod
    def read(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[AnyRow]:
        """Rows as they stand now; with ``values`` those of a statement that was built before.

        Raises:
            NotServing: the database cannot be read.
        """

    @abstractmethod
    def bell(self, role: str) -> Bell:
        """The bell that is rung for ``role``, to listen to."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection back."""
