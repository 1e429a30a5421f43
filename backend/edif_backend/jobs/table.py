"""The jobs table: the only place where a job changes.

Used by the gateway (submits, reads events), the dispatcher (claims, finishes) and replicas (lines that a job prints).
Every method is one short transaction; each change of a job and its event are written together.  Methods that finish or
move a claimed job take the claim's ``(worker, attempt)`` and do nothing when that claim is no longer the valid one.

A transaction first locks the rows that it judges (``with_for_update``; in SQLite there is one writer anyway), then
changes them, and its events come last.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, update

from edif_backend.clock import Clock, now
from edif_backend.jobs import schema
from edif_backend.jobs.bell import Bell
from edif_backend.jobs.database import Change, Database
from edif_backend.jobs.job import Deployment, Event, Job, Submission
from edif_backend.jobs.sqlite import SqliteDatabase
from edif_protocol.wire import LOG, WAITING_STATES, State

_t = schema.jobs.c
_WAITING = _t.state.in_(sorted(WAITING_STATES))
_CLAIMED = _t.state.in_((State.DISPATCHED, State.RUNNING))
_KEPT = (_t.state == State.COMPLETED) & _t.result.is_not(None)
_JOB = (
    *(_t.id, _t.user, _t.session_id, _t.model, _t.model_key, _t.compress, _t.env, _t.payload_bytes, _t.state),
    *(_t.description, _t.attempt, _t.leased_by, _t.created_at, _t.changed_at, _t.result, _t.result_bytes, _t.meta),
)
_e = schema.events.c

# Statements that every job needs are built once; the rest is built where it is used.
_FIND = select(*_JOB).where(_t.id == bindparam("job"))
_EVENTS = select(_e.id, _e.job, _e.session_id, _e.kind, _e.description, _e.at).order_by(_e.id)
_EVENTS_AFTER = _EVENTS.where(_e.id > bindparam("after")).limit(bindparam("most"))
_LAST_EVENT = select(func.coalesce(func.max(_e.id), 0))
_WAITING_BY_USER = select(_t.model, _t.user, func.count()).where(_WAITING).group_by(_t.model, _t.user)
_OLDEST = (
    select(_t.id)
    .where(_WAITING, _t.model == bindparam("of_model"), _t.user == bindparam("of_user"))
    .order_by(_t.number)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)  # what another dispatcher is claiming is not waited for
)
_CLAIM = (
    update(schema.jobs)
    .where(_t.id.in_(bindparam("ids", expanding=True)))
    .values(
        state=State.DISPATCHED,
        description="",
        attempt=_t.attempt + 1,
        leased_by=bindparam("worker"),
        lease_until=bindparam("until"),
        changed_at=bindparam("moment"),
    )
    .returning(_t.number, *_JOB)
)
_RUNNING = (
    update(schema.jobs)
    .where(
        _t.id == bindparam("job"),
        _t.leased_by == bindparam("worker"),
        _t.attempt == bindparam("claim"),
        _t.state == State.DISPATCHED,
    )
    .values(state=State.RUNNING, changed_at=bindparam("moment"))
)
_ALIVE = (
    select(_t.id)
    .where(_t.id == bindparam("job"), _t.attempt == bindparam("claim"), _CLAIMED)
    .with_for_update()  # a line must not come after the event that ends its job
)
_HOLDS = _ALIVE.where(_t.leased_by == bindparam("worker"))
_MOVE = (
    update(schema.jobs)
    .where(_t.id == bindparam("job"))
    .values(
        state=bindparam("to"),
        description=bindparam("said"),
        leased_by=None,
        lease_until=None,
        changed_at=bindparam("moment"),
    )
)
_FINISH = _MOVE.values(result=bindparam("object"), result_bytes=bindparam("size"), meta=bindparam("facts"))
_RENEW = update(schema.jobs).where(_t.leased_by == bindparam("worker"), _CLAIMED).values(lease_until=bindparam("until"))


def open_jobs(database: Path, bells: Path | None = None, clock: Clock = now, url: SecretStr | None = None) -> Jobs:
    """The jobs table, made or upgraded if need be: on the PostgreSQL server ``url``, else in the file ``database``.

    Args:
        bells: folder of the bells to ring when the table is a file.

    Raises:
        NotServing: the database cannot be reached.
        SetupFailed: it is not one of ours, or that of a newer eDIF.
    """
    if url and url.get_secret_value():
        # Its driver is loaded where it is used: a process of the embedded installation starts without it.
        from edif_backend.jobs.postgres import PostgresDatabase  # noqa: PLC0415

        return Jobs(PostgresDatabase(url.get_secret_value()), clock)
    return Jobs(SqliteDatabase(database, bells), clock)


class Jobs:
    """Every change and every reading of jobs, events and deployments."""

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

    # -- the gateway ----------------------------------------------------------

    def submit(self, submission: Submission) -> Job:
        """Accept a job; submitting the same id again changes nothing and returns what is there."""
        moment = self._clock()
        row = {**dataclasses.asdict(submission), "state": State.QUEUED, "created_at": moment, "changed_at": moment}
        row |= {"description": "", "attempt": 0, "result_bytes": 0, "meta": {}}

        def work(change: Change) -> None:
            if change.add(schema.jobs, row):
                change.event(submission.id, State.RECEIVED, "", moment)
                change.event(submission.id, State.QUEUED, "Waiting for a free slot.", moment)

        self._database.change(work, "dispatcher", "gateway")
        job = self.job(submission.id)
        assert job is not None
        return job

    def job(self, id: str) -> Job | None:
        """The job ``id``, or None."""
        rows = self._database.read(_FIND, {"job": id})
        return _job(rows[0]) if rows else None

    def newest(self, user: str | None = None, limit: int = 50) -> list[Job]:
        """The newest jobs first, of one user or of all."""
        query = select(*_JOB).order_by(_t.number.desc()).limit(limit)
        return [_job(row) for row in self._database.read(query if user is None else query.where(_t.user == user))]

    def events_after(self, id: int, limit: int = 1000) -> list[Event]:
        """Events with a larger id, in order; no event with a smaller id appears later."""
        return [Event(*row) for row in self._database.read(_EVENTS_AFTER, {"after": id, "most": limit})]

    def last_event(self) -> int:
        """Id of the newest event, 0 when there is none."""
        return int(self._database.read(_LAST_EVENT)[0][0])

    # -- the dispatcher -------------------------------------------------------

    def waiting(self) -> dict[str, dict[str, int]]:
        """Number of waiting jobs by model and user."""
        found: dict[str, dict[str, int]] = {}
        for model, user, count in self._database.read(_WAITING_BY_USER):
            found.setdefault(model, {})[user] = count
        return found

    def claim(self, worker: str, turns: Mapping[str, Sequence[str]], lease_s: float) -> list[Job]:
        """Lease to ``worker``, for each model, the oldest waiting jobs of these users: one for each mention."""

        def work(change: Change) -> list[Job]:
            ids = [
                row.id
                for model, users in sorted(turns.items())
                for user, most in sorted(Counter(users).items())
                for row in change.run(_OLDEST, {"of_model": model, "of_user": user, "most": most})
            ]
            if not ids:
                return []
            moment = self._clock()
            values = {"ids": ids, "worker": worker, "until": moment + lease_s, "moment": moment}
            rows = sorted(change.run(_CLAIM, values), key=lambda row: row.number)
            for row in rows:
                change.event(row.id, State.DISPATCHED, "Sent to a replica.", moment)
            return [_job(row[1:]) for row in rows]

        return self._database.change(work, "gateway") if any(turns.values()) else []

    def deploying(self, model: str, state: State, description: str) -> None:
        """Tell the jobs that wait for ``model`` how far it is (``PROVISIONING`` or ``DEPLOYING``)."""
        waiting = _locked(_WAITING, _t.model == model, or_(_t.state != state, _t.description != description))

        def work(change: Change) -> None:
            for row in change.run(waiting).fetchall():
                self._move(change, row.id, state, description)

        self._database.change(work, "gateway")

    def refuse_waiting(self, model: str, description: str, meta: Mapping[str, Any]) -> None:
        """End every job that waits for ``model`` with an error: the model cannot be loaded."""

        def work(change: Change) -> None:
            for row in change.run(_locked(_WAITING, _t.model == model)).fetchall():
                self._finish(change, row.id, State.ERROR, description, None, 0, meta)

        self._database.change(work, "gateway")

    def running(self, job: str, worker: str, attempt: int) -> bool:
        """The job's executor has started."""

        def work(change: Change) -> bool:
            moment = self._clock()
            values = {"job": job, "worker": worker, "claim": attempt, "moment": moment}
            if not change.run(_RUNNING, values).rowcount:
                return False
            change.event(job, State.RUNNING, "Running.", moment)
            return True

        return self._database.change(work, "gateway")

    def log(self, job: str, attempt: int, text: str) -> None:
        """A line that the job printed, while it runs."""

        def work(change: Change) -> None:
            if change.run(_ALIVE, {"job": job, "claim": attempt}).first():
                change.event(job, LOG, text, self._clock())

        self._database.change(work, "gateway")

    def complete(
        self, job: str, worker: str, attempt: int, result: str, result_bytes: int, meta: Mapping[str, Any]
    ) -> bool:
        """End the job with its result; False when the claim is not valid any more."""

        def work(change: Change) -> bool:
            if not _holds(change, job, worker, attempt):
                return False
            self._finish(change, job, State.COMPLETED, "Done.", result, result_bytes, meta)
            return True

        return self._database.change(work, "gateway")

    def fail(self, job: str, worker: str, attempt: int, description: str, meta: Mapping[str, Any]) -> bool:
        """End the job with an error; False when the claim is not valid any more."""

        def work(change: Change) -> bool:
            if not _holds(change, job, worker, attempt):
                return False
            self._finish(change, job, State.ERROR, description, None, 0, meta)
            return True

        return self._database.change(work, "gateway")

    def requeue(self, job: str, worker: str, attempt: int, reason: str, attempts: int) -> None:
        """Give a claimed job back to the queue, or end it when it was claimed ``attempts`` times already."""

        def work(change: Change) -> None:
            if _holds(change, job, worker, attempt):
                self._requeue(change, job, attempt, reason, attempts)

        self._database.change(work, "dispatcher", "gateway")

    def renew(self, worker: str, lease_s: float) -> None:
        """A sign of life of ``worker``: renews all its leases."""

        def work(change: Change) -> None:
            moment = self._clock()
            change.put(schema.dispatchers, {"name": worker, "seen_at": moment})
            change.run(_RENEW, {"worker": worker, "until": moment + lease_s})

        self._database.change(work)

    def requeue_lost(self, attempts: int, worker: str | None = None) -> int:
        """Requeue claimed jobs whose lease has run out, and all of ``worker``, whose earlier process is dead."""
        lost = _locked(_CLAIMED, or_(_t.lease_until < self._clock(), _t.leased_by == (worker or "")))

        def work(change: Change) -> int:
            rows = change.run(lost).fetchall()
            for row in rows:
                reason = "The dispatcher was lost; the job starts again."
                self._requeue(change, row.id, row.attempt, reason, attempts)
            return len(rows)

        return self._database.change(work, "gateway")

    # -- what is kept ---------------------------------------------------------

    def unfinished(self) -> set[str]:
        """Ids of the jobs that have not ended: their payloads are still needed."""
        return {row.id for row in self._database.read(select(_t.id).where(or_(_WAITING, _CLAIMED)))}

    def kept_results(self) -> list[tuple[str, str, str, int, float]]:
        """Job, user, object, bytes and end of every result that is promised, oldest first."""
        query = select(_t.id, _t.user, _t.result, _t.result_bytes, _t.changed_at).where(_KEPT)
        return [(*row,) for row in self._database.read(query.order_by(_t.changed_at, _t.number))]

    def expire(self, job: str, description: str) -> bool:
        """The job's result is not kept any more; False when it was not there to begin with."""

        def work(change: Change) -> bool:
            row = change.run(select(_t.meta).where(_t.id == job, _KEPT).with_for_update()).first()
            if row is None:
                return False
            self._finish(change, job, State.EXPIRED, description, None, 0, row.meta)
            return True

        return self._database.change(work, "gateway")

    # -- signs of life --------------------------------------------------------

    def dispatcher_seen_at(self) -> float | None:
        """When a dispatcher last gave a sign of life."""
        value = self._database.read(select(func.max(schema.dispatchers.c.seen_at)))[0][0]
        return None if value is None else float(value)

    def deploy(self, model: str, state: str, description: str, replicas: int) -> None:
        """Note what is known of a model's replicas, for the status page and clients."""
        row = {"model": model, "state": state, "description": description, "replicas": replicas}
        self._database.change(
            lambda change: change.put(schema.deployments, {**row, "seen_at": self._clock()}), "gateway"
        )

    def deployments(self) -> dict[str, Deployment]:
        """What is known of every model that was ever deployed here."""
        return {row.model: Deployment(*row) for row in self._database.read(select(schema.deployments))}

    # -- one change, used by several of the above -----------------------------

    def _requeue(self, change: Change, job: str, attempt: int, reason: str, attempts: int) -> None:
        if attempt >= attempts:
            text = f"{reason} It was started {attempt} times without an end and is given up; send it again to retry."
            self._finish(change, job, State.ERROR, text, None, 0, {"code": "attempts-used-up"})
        else:
            self._move(change, job, State.QUEUED, reason)

    def _move(self, change: Change, job: str, state: State, description: str) -> None:
        moment = self._clock()
        change.run(_MOVE, {"job": job, "to": state, "said": description, "moment": moment})
        change.event(job, state, description, moment)

    def _finish(
        self,
        change: Change,
        job: str,
        state: State,
        description: str,
        result: str | None,
        result_bytes: int,
        meta: Mapping[str, Any],
    ) -> None:
        moment = self._clock()
        values = {"job": job, "to": state, "said": description, "moment": moment}
        change.run(_FINISH, {**values, "object": result, "size": result_bytes, "facts": dict(meta)})
        change.event(job, state, description, moment)


def _locked(*conditions: ColumnElement[bool]) -> Select[str, int]:
    """The jobs that meet the conditions, oldest first, locked until the transaction ends."""
    return select(_t.id, _t.attempt).where(*conditions).order_by(_t.number).with_for_update()


def _holds(change: Change, job: str, worker: str, attempt: int) -> bool:
    """Whether this claim is the valid one; the job is locked if so."""
    return change.run(_HOLDS, {"job": job, "worker": worker, "claim": attempt}).first() is not None


def _job(row: Sequence[Any]) -> Job:
    values = list(row)
    values[8] = State(row[8])
    return Job(*values)
