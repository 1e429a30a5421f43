"""Reading of jobs, events and deployments: nothing here changes anything.

The first half of :class:`~edif_backend.jobs.table.Jobs`, which has the changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, or_, select

from edif_backend.clock import Clock
from edif_backend.jobs import schema
from edif_backend.jobs import statements as sql
from edif_backend.jobs.bell import Bell
from edif_backend.jobs.database import Database
from edif_backend.jobs.job import Deployment, Event, Job
from edif_protocol.wire import State


class Reading:
    """What can be read of jobs, events and deployments."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def now(self) -> float:
        """The time by which this table's moments are written."""
        return self._clock()

    def bell(self, role: str) -> Bell:
        """The bell that is rung for ``role`` (``gateway`` or ``dispatcher``), to listen to."""
        return self._database.bell(role)

    def job(self, id: str) -> Job | None:
        """The job ``id``, or None."""
        rows = self._database.read(sql.FIND, {"job": id})
        return job_of(rows[0]) if rows else None

    def newest(self, user: str | None = None, limit: int = 50, before: str | None = None) -> list[Job]:
        """The newest jobs first, of one user or of all; only those older than the job ``before``, if one is named."""
        query = select(*sql.JOB).order_by(sql.t.number.desc()).limit(limit)
        if user is not None:
            query = query.where(sql.t.user == user)
        if before is not None:
            query = query.where(sql.t.number < select(sql.t.number).where(sql.t.id == before).scalar_subquery())
        return [job_of(row) for row in self._database.read(query)]

    def events_of(self, job: str, after: int, limit: int) -> list[Event]:
        """Events of one job with a larger id than ``after``, in order."""
        query = sql.EVENTS.where(sql.e.job == job, sql.e.id > after).limit(limit)
        return [Event(*row) for row in self._database.read(query)]

    def events_after(self, id: int, limit: int = 1000) -> list[Event]:
        """Events with a larger id, in order; no event with a smaller id appears later."""
        return [Event(*row) for row in self._database.read(sql.EVENTS_AFTER, {"after": id, "most": limit})]

    def last_event(self) -> int:
        """Id of the newest event, 0 when there is none."""
        return int(self._database.read(sql.LAST_EVENT)[0][0])

    def waiting(self) -> dict[str, dict[str, int]]:
        """Number of waiting jobs by model and user."""
        found: dict[str, dict[str, int]] = {}
        for model, user, count in self._database.read(sql.WAITING_BY_USER):
            found.setdefault(model, {})[user] = count
        return found

    def held(self, worker: str) -> set[tuple[str, int]]:
        """Job and attempt of every valid claim of ``worker``."""
        return {(row.id, row.attempt) for row in self._database.read(sql.HELD, {"worker": worker})}

    def unfinished(self) -> set[str]:
        """Ids of the jobs that have not ended: their payloads are still needed."""
        return {row.id for row in self._database.read(select(sql.t.id).where(or_(sql.WAITING, sql.CLAIMED)))}

    def kept_results(self) -> list[tuple[str, str, str, int, float]]:
        """Job, user, object, bytes and end of every result that is promised, oldest first."""
        query = select(sql.t.id, sql.t.user, sql.t.result, sql.t.result_bytes, sql.t.changed_at).where(sql.KEPT)
        return [(*row,) for row in self._database.read(query.order_by(sql.t.changed_at, sql.t.number))]

    def dispatcher_seen_at(self) -> float | None:
        """When a dispatcher last gave a sign of life."""
        value = self._database.read(select(func.max(schema.dispatchers.c.seen_at)))[0][0]
        return None if value is None else float(value)

    def deployments(self) -> dict[str, Deployment]:
        """What is known of every model that was ever deployed here."""
        return {row.model: Deployment(*row) for row in self._database.read(select(schema.deployments))}


def job_of(row: Sequence[Any]) -> Job:
    """The job in a row of the columns ``statements.JOB``."""
    values = list(row)
    values[8] = State(row[8])
    return Job(*values)
