"""Reading of jobs, events and deployments: nothing here changes anything.

The first half of :class:`~edif_backend.jobs.table.Jobs`, which has the changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import func, or_, select

from edif_backend.clock import Clock
from edif_backend.jobs import accounting, schema
from edif_backend.jobs import statements as sql
from edif_backend.jobs.bell import Bell
from edif_backend.jobs.database import Database
from edif_backend.jobs.job import Deployment, Event, Job, Reservation, Use, WaitingJob
from edif_backend.jobs.kept import KeptValues
from edif_backend.settings import Limits
from edif_protocol.wire import WAITING_STATES, State


class Reading:
    """What can be read of jobs, events and deployments."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.kept = KeptValues(database, clock)

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @property
    def near(self) -> bool:
        """Whether a row is read in no time, so that an event loop may do it."""
        return self._database.near

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

    def events_of(self, job: str, after: int = 0, limit: int = 1_000_000) -> list[Event]:
        """Events of one job with a larger id than ``after``, in order."""
        wanted = {"of_job": job, "after": after, "most": limit}
        return [Event(*row) for row in self._database.read(sql.EVENTS_OF, wanted)]

    def events_after(self, id: int, limit: int = 1000) -> list[Event]:
        """Events with a larger id, in order; no event with a smaller id appears later."""
        return [Event(*row) for row in self._database.read(sql.EVENTS_AFTER, {"after": id, "most": limit})]

    def last_event(self) -> int:
        """Id of the newest event, 0 when there is none."""
        return int(self._database.read(sql.LAST_EVENT, {})[0][0])

    def waiting(self) -> dict[str, dict[str, int]]:
        """Number of waiting jobs by model and user."""
        found: dict[str, dict[str, int]] = {}
        for model, user, count in self._database.read(sql.WAITING_BY_USER, {}):
            found.setdefault(model, {})[user] = count
        return found

    def held(self, worker: str) -> set[tuple[str, int]]:
        """Job and attempt of every valid claim of ``worker``."""
        return {(row.id, row.attempt) for row in self._database.read(sql.HELD, {"worker": worker})}

    def waiting_jobs(self) -> list[WaitingJob]:
        """All waiting jobs, oldest first."""
        query = select(sql.t.id, sql.t.user, sql.t.model, sql.t.created_at).where(sql.WAITING).order_by(sql.t.number)
        return [WaitingJob(*row) for row in self._database.read(query)]

    def claimed(self) -> dict[str, int]:
        """Number of claimed jobs by model."""
        query = select(sql.t.model, func.count()).where(sql.CLAIMED).group_by(sql.t.model)
        return {row[0]: row[1] for row in self._database.read(query)}

    def waiting_of(self, user: str) -> list[Job]:
        """The waiting jobs of one user, oldest first."""
        query = select(*sql.JOB).where(sql.t.user == user, sql.WAITING).order_by(sql.t.number)
        return [job_of(row) for row in self._database.read(query)]

    def claims_of(self, worker: str) -> list[Job]:
        """What ``worker`` holds, oldest first."""
        return [job_of(row) for row in self._database.read(sql.CLAIMS_OF, {"worker": worker})]

    def unfinished(self) -> set[str]:
        """Ids of the jobs that have not ended: their payloads are still needed."""
        return {row.id for row in self._database.read(select(sql.t.id).where(or_(sql.WAITING, sql.CLAIMED)))}

    def kept_results(self) -> list[tuple[str, str, str, int, float]]:
        """Job, user, object, bytes and end of every result that is promised, oldest first."""
        query = select(sql.t.id, sql.t.user, sql.t.result, sql.t.result_bytes, sql.t.changed_at).where(sql.KEPT)
        return [(*row,) for row in self._database.read(query.order_by(sql.t.changed_at, sql.t.number))]

    # -- users and what they may -----------------------------------------------

    def groups(self, users: Iterable[str]) -> dict[str, list[str]]:
        """Groups of these users, as they were with the last job of each; who has never sent one is left out."""
        query = select(schema.users).where(schema.users.c.name.in_(sorted(users)))
        return {row.name: row.member_of for row in self._database.read(query)}

    def use(self, user: str) -> Use:
        """What a user has under way, keeps, and has used today."""
        mine = {"of_user": user}
        counts = {State(state): (count, size) for state, count, size in self._database.read(accounting.UNDER_WAY, mine)}
        stored = select(func.coalesce(func.sum(sql.t.result_bytes), 0)).where(sql.KEPT, sql.t.user == user)
        charged = self._database.read(accounting.CHARGED, {**mine, "of_day": accounting.day_of(self._clock())})
        return Use(
            queued_jobs=sum(count for state, (count, _) in counts.items() if state in WAITING_STATES),
            running_jobs=sum(count for state, (count, _) in counts.items() if state not in WAITING_STATES),
            payload_bytes=sum(int(size) for _, size in counts.values()),
            stored_bytes=int(self._database.read(stored)[0][0]),
            device_seconds_today=charged[0][0] if charged else 0.0,
        )

    def charged_today(self) -> dict[str, float]:
        """Device-seconds of every user who has used any since midnight UTC."""
        c = schema.charges.c
        today = select(c.user, c.device_s).where(c.day == accounting.day_of(self._clock()))
        return {row.user: row.device_s for row in self._database.read(today)}

    def may_submit(self, user: str, payload_bytes: int, limits: Limits, job: str | None = None) -> None:
        """Refuse what :meth:`Jobs.submit` would refuse, as far as can be seen without a transaction.

        Args:
            payload_bytes: at least so many.
            job: its id where it follows from its name: one that is there already is not refused.

        Raises:
            LimitReached: the user is over a limit with another job.
        """
        if job is None or not self._database.read(sql.FIND, {"job": job}):
            accounting.judge(self._database.read, user, payload_bytes, limits, self._clock(), counted=False)

    def limits_set(self) -> dict[str, dict[str, Any]]:
        """What commands have set, over ``edif.toml``: values by ``group:NAME`` or ``user:NAME``."""
        return {row.subject: row.said for row in self._database.read(select(schema.limits))}

    def reservations(self, after: float) -> list[Reservation]:
        """Reservations that end later than ``after``, the first to begin first."""
        r = schema.reservations.c
        query = select(schema.reservations).where(r.ends_at > after).order_by(r.starts_at, r.id)
        return [Reservation(*row) for row in self._database.read(query)]

    # -- signs of life ---------------------------------------------------------

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
