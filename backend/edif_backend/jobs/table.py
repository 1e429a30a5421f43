"""The jobs table: the only place where a job changes.

Used by the gateway (submits, reads events), the dispatcher (claims, finishes) and replicas (lines that a job prints).
Every method is one short transaction; each change of a job and its event are written together.  Methods that finish or
move a claimed job take the claim's ``(worker, attempt)`` and do nothing when that claim is no longer the valid one.

A transaction first locks the rows that it judges (``with_for_update``; in SQLite there is one writer anyway), then
changes them, and its events come last.  What only reads is in :mod:`~edif_backend.jobs.reading`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, or_, select, update

from edif_backend.jobs import accounting, schema
from edif_backend.jobs import statements as sql
from edif_backend.jobs.database import AnyRow, Change
from edif_backend.jobs.job import Job, Note, Reservation, Submission
from edif_backend.jobs.kept import KeptValue
from edif_backend.jobs.reading import Reading, job_of
from edif_backend.settings import Limits
from edif_protocol.wire import LOG, State

#: How many waiting jobs hear at once how far their model is: thousands of events would help nobody.
_TOLD_AT_ONCE = 100

#: A job that takes the whole fabric down with it each time it starts ends all the same.
_EXCUSES = 10

_RUNNING = "Running."


class Jobs(Reading):
    """Every change of jobs, events and deployments, and their reading."""

    # -- the gateway ----------------------------------------------------------

    def submit(self, submission: Submission, limits: Limits | None = None) -> Job:
        """Accept a job; submitting the same id again changes nothing and returns what is there.

        Args:
            limits: what its user may have under way; judged together with all that other gateways accept.

        Raises:
            LimitReached: the user is over a limit with this job; nothing changed.
        """
        moment = self._clock()
        given = dataclasses.asdict(submission)
        del given["groups"]
        row = {**given, "state": State.QUEUED, "created_at": moment, "changed_at": moment}
        row |= {"description": "", "attempt": 0, "result_bytes": 0, "meta": {}}

        def work(change: Change) -> None:
            accounting.know_user(change, submission, moment)
            if change.add(schema.jobs, row):
                if limits:
                    size_bytes = submission.payload_bytes
                    accounting.judge(change.run, submission.user, size_bytes, limits, moment, counted=True)
                change.event(submission.id, State.RECEIVED, "", moment)
                change.event(submission.id, State.QUEUED, "Waiting for a free slot.", moment)

        self._database.change(work, "dispatcher", soon="gateway")
        job = self.job(submission.id)
        assert job is not None
        return job

    def cancel(self, id: str, description: str, user: str | None = None) -> Job | None:
        """End a job that has not ended yet, at once; gives the job as it then stands.

        Whoever runs it finds its claim gone (:meth:`held`) and stops; what comes of it meanwhile does not count.

        Args:
            user: whose job it must be; None for the operator, who may end any.

        Returns:
            The job, CANCELLED or as it had ended before; None when there is no such job of ``user``.
        """
        mine = [sql.t.user == user] if user is not None else []
        open_job = sql.locked(sql.t.id == id, or_(sql.WAITING, sql.CLAIMED), *mine)

        def work(change: Change) -> None:
            if change.run(open_job).first():
                self._finish(change, id, State.CANCELLED, description, None, 0, {"code": "cancelled"})

        self._database.change(work, "dispatcher", "gateway")
        job = self.job(id)
        return None if job is None or user not in (None, job.user) else job

    # -- the dispatcher -------------------------------------------------------

    def claim(self, worker: str, turns: Mapping[str, Sequence[str]], lease_s: float) -> list[Job]:
        """Lease to ``worker``, for each model, the oldest waiting jobs of these users: one for each mention."""

        def work(change: Change) -> list[Job]:
            ids = [
                row.id
                for model, users in sorted(turns.items())
                for user, most in sorted(Counter(users).items())
                for row in change.run(sql.OLDEST, {"of_model": model, "of_user": user, "most": most})
            ]
            if not ids:
                return []
            moment = self._clock()
            values = {"worker": worker, "until": moment + lease_s, "moment": moment}
            claimed = (row for id in ids for row in change.run(sql.CLAIM, {**values, "job": id}))
            rows = sorted(claimed, key=lambda row: row.number)
            for row in rows:
                change.event(row.id, State.DISPATCHED, "Sent to a replica.", moment)
            return [job_of(row[1:]) for row in rows]

        return self._database.change(work, soon="gateway") if any(turns.values()) else []

    def deploying(self, model: str, state: State, description: str) -> None:
        """Tell the oldest hundred jobs that wait for ``model`` how far it is (``PROVISIONING`` or ``DEPLOYING``)."""
        oldest = select(sql.t.id).where(sql.WAITING, sql.t.model == model).order_by(sql.t.number).limit(_TOLD_AT_ONCE)
        waiting = sql.locked(sql.t.id.in_(oldest), or_(sql.t.state != state, sql.t.description != description))

        def work(change: Change) -> None:
            for row in change.run(waiting).fetchall():
                self._move(change, row.id, state, description)

        self._database.change(work, soon="gateway")

    def note(self, notes: Sequence[Note]) -> None:
        """Tell waiting jobs their place and more; those that do not wait any more are left alone."""
        said = {note.job: note for note in notes}

        def work(change: Change) -> None:
            moment, waiting = self._clock(), change.run(sql.locked(sql.WAITING, sql.t.id.in_(said))).fetchall()
            for row in waiting:
                note = said[row.id]
                facts = {"position": note.position, "starts_at": note.starts_at}
                change.run(sql.NOTE, {"job": row.id, "said": note.description, "facts": facts})
                if note.description is not None:
                    change.event(row.id, row.state, note.description, moment)

        self._database.change(work, soon="gateway")

    def refuse_waiting(self, model: str, description: str, meta: Mapping[str, Any]) -> None:
        """End every job that waits for ``model`` with an error: the model cannot be loaded."""

        def work(change: Change) -> None:
            for row in change.run(sql.locked(sql.WAITING, sql.t.model == model)).fetchall():
                self._finish(change, row.id, State.ERROR, description, None, 0, meta)

        self._database.change(work, "gateway")

    def running(self, job: str, worker: str, attempt: int, started_at: float | None = None) -> bool:
        """The job's executor has started, now or a moment ago."""

        def work(change: Change) -> bool:
            moment = started_at or self._clock()
            values = {"job": job, "worker": worker, "claim": attempt, "moment": moment}
            if not change.run(sql.RUNNING, values).rowcount:
                return False
            change.event(job, State.RUNNING, _RUNNING, moment)
            return True

        return self._database.change(work, soon="gateway")

    def log(self, job: str, attempt: int, text: str) -> None:
        """A line that the job printed, while it runs."""

        def work(change: Change) -> None:
            if change.run(sql.ALIVE, {"job": job, "claim": attempt}).first():
                change.event(job, LOG, text, self._clock())

        self._database.change(work, soon="gateway")

    def complete(
        self,
        job: str,
        worker: str,
        attempt: int,
        result: str,
        result_bytes: int,
        meta: Mapping[str, Any],
        device_s: float = 0.0,
        started_at: float | None = None,
    ) -> bool:
        """End the job with its result; False when the claim is not valid any more.

        Args:
            device_s: seconds on a device to charge its user with, here and in the two methods below.
            started_at: when its executor started, where that may not have been told (:meth:`running`); here and in
                the next method.
        """
        return self._end(
            (job, worker, attempt, device_s), started_at, State.COMPLETED, "Done.", result, result_bytes, meta
        )

    def fail(
        self,
        job: str,
        worker: str,
        attempt: int,
        description: str,
        meta: Mapping[str, Any],
        device_s: float = 0.0,
        started_at: float | None = None,
    ) -> bool:
        """End the job with an error; False when the claim is not valid any more."""
        return self._end((job, worker, attempt, device_s), started_at, State.ERROR, description, None, 0, meta)

    def keep(self, value: KeptValue, worker: str, attempt: int) -> bool:
        """Keep a value that the job has made, in place of what had its name; False when the claim is not valid."""
        same = (schema.kept.c.user == value.user) & (schema.kept.c.name == value.name)

        def work(change: Change) -> bool:
            if not change.run(sql.HOLDS, {"job": value.job, "worker": worker, "claim": attempt}).first():
                return False
            change.run(delete(schema.kept).where(same))
            return change.add(schema.kept, dataclasses.asdict(value))

        return self._database.change(work)

    def requeue(
        self,
        job: str,
        worker: str,
        attempt: int,
        reason: str,
        attempts: int,
        device_s: float = 0.0,
        *,
        excused: bool = False,
    ) -> None:
        """Give a claimed job back to the queue, or end it when ``attempts`` starts were lost.

        Args:
            excused: this start was lost with the fabric, not with the job's own executor or replica: it does not count,
                unless that happens again and again.
        """

        def work(change: Change) -> None:
            if row := self._given_back(change, job, worker, attempt, device_s):
                self._requeue(change, row, reason, attempts, excused=excused)

        self._database.change(work, "dispatcher", "gateway")

    def renew(self, worker: str, lease_s: float) -> None:
        """A sign of life of ``worker``: renews all its leases."""

        def work(change: Change) -> None:
            moment = self._clock()
            change.put(schema.dispatchers, {"name": worker, "seen_at": moment})
            change.run(sql.RENEW, {"worker": worker, "until": moment + lease_s})

        self._database.change(work)

    def requeue_lost(self, attempts: int, worker: str) -> int:
        """Requeue what others than ``worker``, which is alive, have claimed and let lapse."""
        lost = sql.locked(sql.CLAIMED, sql.t.lease_until < self._clock(), sql.t.leased_by != worker)

        def work(change: Change) -> int:
            rows = change.run(lost).fetchall()
            for row in rows:
                self._requeue(change, row, "The dispatcher was lost; the job starts again.", attempts, excused=True)
            return len(rows)

        return self._database.change(work, "gateway")

    # -- what is kept ---------------------------------------------------------

    def expire(self, job: str, description: str) -> bool:
        """The job's result is not kept any more; False when it was not there to begin with."""

        def work(change: Change) -> bool:
            row = change.run(select(sql.t.meta).where(sql.t.id == job, sql.KEPT).with_for_update()).first()
            if row is None:
                return False
            self._finish(change, job, State.EXPIRED, description, None, 0, row.meta)
            return True

        return self._database.change(work, "gateway")

    # -- signs of life --------------------------------------------------------

    def deploy(self, model: str, state: str, description: str, replicas: int) -> None:
        """Note what is known of a model's replicas, for the status page and clients."""
        row = {"model": model, "state": state, "description": description, "replicas": replicas}
        self._database.change(
            lambda change: change.put(schema.deployments, {**row, "seen_at": self._clock()}), soon="gateway"
        )

    def expect(self, model: str, wait_s: float) -> None:
        """Note how long a job of somebody new would wait for ``model``."""
        known = schema.deployments
        self._database.change(
            lambda change: change.run(update(known).where(known.c.model == model).values(wait_s=wait_s))
        )

    # -- what users may --------------------------------------------------------

    def set_limits(self, subject: str, said: Mapping[str, Any]) -> None:
        """Say what a group (``group:NAME``) or a user (``user:NAME``) may, over ``edif.toml``; nothing takes it back.

        Args:
            said: values by field of :class:`~edif_backend.settings.Limits`; those that are left out are not said.

        Raises:
            ValueError: a field that does not exist, or a value that it cannot have.
        """
        row = {"subject": subject, "said": Limits(**said).model_dump(exclude_unset=True), "changed_at": self._clock()}

        def work(change: Change) -> None:
            if said:
                change.put(schema.limits, row)
            else:
                change.run(delete(schema.limits).where(schema.limits.c.subject == subject))

        self._database.change(work, "dispatcher")

    def reserve(self, reservation: Reservation) -> None:
        """Note a reservation, or change the one of that id."""
        row = {**dataclasses.asdict(reservation), "member_of": reservation.group}
        del row["group"]
        self._database.change(lambda change: change.put(schema.reservations, row), "dispatcher")

    def unreserve(self, id: str) -> bool:
        """Take a reservation back; False when there was none of that id."""
        gone = delete(schema.reservations).where(schema.reservations.c.id == id)
        return self._database.change(lambda change: change.run(gone).rowcount > 0, "dispatcher")

    # -- one change, used by several of the above -----------------------------

    def _end(self, claim: tuple[str, str, int, float], started_at: float | None, *how: Any) -> bool:
        def work(change: Change) -> bool:
            row = self._given_back(change, *claim)
            if row is None:
                return False
            if started_at is not None and row.state == State.DISPATCHED:  # a short job's start was not told
                change.event(row.id, State.RUNNING, _RUNNING, started_at)
            self._finish(change, row.id, *how)
            return True

        return self._database.change(work, "gateway")

    def _given_back(self, change: Change, job: str, worker: str, attempt: int, device_s: float) -> AnyRow | None:
        """Charge for a run that has ended; the job, locked, if its claim is still the valid one."""
        held = change.run(sql.HOLDS, {"job": job, "worker": worker, "claim": attempt}).first()
        ran = held or change.run(sql.CANCELLED_MEANWHILE, {"job": job, "claim": attempt}).first()
        if ran and device_s > 0:
            accounting.charge(change, ran.user, device_s, self._clock())
        return held

    def _requeue(self, change: Change, row: AnyRow, reason: str, attempts: int, *, excused: bool) -> None:
        if row.attempt - row.excused - excused >= attempts or row.excused >= _EXCUSES:
            lost = f"It was started {row.attempt} times without an end and is given up; send it again to retry."
            self._finish(change, row.id, State.ERROR, f"{reason} {lost}", None, 0, {"code": "attempts-used-up"})
            return
        if excused:
            change.run(sql.EXCUSE, {"job": row.id})
        self._move(change, row.id, State.QUEUED, reason)

    def _move(self, change: Change, job: str, state: State, description: str) -> None:
        moment = self._clock()
        change.run(sql.MOVE, {"job": job, "to": state, "said": description, "moment": moment})
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
        change.run(sql.FINISH, {**values, "object": result, "size": result_bytes, "facts": dict(meta)})
        change.event(job, state, description, moment)
