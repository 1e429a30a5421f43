"""The jobs table in SQLite: the only place where a job changes.

Used by the gateway (submits, reads events), the dispatcher (claims, finishes) and replicas (lines that a job prints).
Every method is one short transaction; each change of a job and its event are written together.  Methods that finish or
move a claimed job take the claim's ``(worker, attempt)`` and do nothing when that claim is no longer the valid one.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from edif_backend.clock import Clock, now
from edif_backend.errors import NotServing
from edif_backend.jobs.bell import Bells
from edif_backend.jobs.job import Deployment, Event, Job, Submission
from edif_protocol.wire import LOG, WAITING_STATES, State

_WAITING = ", ".join(f"'{state}'" for state in sorted(WAITING_STATES))
_CLAIMED = f"'{State.DISPATCHED}', '{State.RUNNING}'"
_JOB = (
    "id, user, session_id, model, model_key, compress, env, payload_bytes, state, description, attempt, leased_by, "
    "created_at, changed_at, result, result_bytes, meta"
)


def open_jobs(database: Path, bells: Path | None = None, clock: Clock = now) -> Jobs:
    """The jobs table in the file ``database`` (made if missing); ``bells`` is the folder of the bells to ring."""
    database.parent.mkdir(parents=True, exist_ok=True)
    return Jobs(database, Bells(bells) if bells else None, clock)


class Jobs:
    """Every change and every reading of jobs, events and deployments."""

    def __init__(self, database: Path, bells: Bells | None, clock: Clock) -> None:
        self._connection = sqlite3.connect(database, timeout=10, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # With WAL, NORMAL loses nothing when a process dies; only a power cut may take the last commits.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(files("edif_backend.jobs").joinpath("schema.sql").read_text())
        self._lock = threading.Lock()
        self._bells = bells
        self._clock = clock

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def now(self) -> float:
        """The time by which this table's moments are written."""
        return self._clock()

    @contextmanager
    def _change(self, *ring: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise NotServing(
                    f"The jobs database cannot be written ({error}); nothing changed. Tell the operator, then retry."
                ) from error
        if self._bells:
            for role in ring:
                self._bells.ring(role)

    def _read(self, query: str, *values: Any) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()

    def _event(self, connection: sqlite3.Connection, job: str, kind: str, description: str) -> None:
        connection.execute(
            "INSERT INTO events (job, session_id, kind, description, at) "
            "SELECT id, session_id, ?, ?, ? FROM jobs WHERE id = ?",
            (kind, description, self._clock(), job),
        )

    # -- the gateway ----------------------------------------------------------

    def submit(self, submission: Submission) -> Job:
        """Accept a job; submitting the same id again changes nothing and returns what is there."""
        moment = self._clock()
        with self._change("dispatcher", "gateway") as connection:
            fresh = connection.execute(
                "INSERT INTO jobs (id, user, session_id, model, model_key, compress, env, payload_bytes, state, "
                "created_at, changed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (
                    submission.id,
                    submission.user,
                    submission.session_id,
                    submission.model,
                    submission.model_key,
                    submission.compress,
                    json.dumps(submission.env),
                    submission.payload_bytes,
                    State.QUEUED,
                    moment,
                    moment,
                ),
            ).rowcount
            if fresh:
                self._event(connection, submission.id, State.RECEIVED, "")
                self._event(connection, submission.id, State.QUEUED, "Waiting for a free slot.")
        job = self.job(submission.id)
        assert job is not None
        return job

    def job(self, id: str) -> Job | None:
        """The job ``id``, or None."""
        rows = self._read(f"SELECT {_JOB} FROM jobs WHERE id = ?", id)
        return _job(rows[0]) if rows else None

    def newest(self, user: str | None = None, limit: int = 50) -> list[Job]:
        """The newest jobs first, of one user or of all."""
        rows = self._read(
            f"SELECT {_JOB} FROM jobs WHERE ? IS NULL OR user = ? ORDER BY number DESC LIMIT ?", user, user, limit
        )
        return [_job(row) for row in rows]

    def events_after(self, id: int, limit: int = 1000) -> list[Event]:
        """Events with a larger id, in order."""
        rows = self._read(
            "SELECT id, job, session_id, kind, description, at FROM events WHERE id > ? ORDER BY id LIMIT ?", id, limit
        )
        return [Event(*row) for row in rows]

    def last_event(self) -> int:
        """Id of the newest event, 0 when there is none."""
        return int(self._read("SELECT coalesce(max(id), 0) FROM events")[0][0])

    # -- the dispatcher -------------------------------------------------------

    def waiting(self) -> dict[str, int]:
        """Number of waiting jobs by model."""
        return dict(self._read(f"SELECT model, count(*) FROM jobs WHERE state IN ({_WAITING}) GROUP BY model"))

    def claim(self, worker: str, free: Mapping[str, int], lease_s: float) -> list[Job]:
        """Lease to ``worker`` up to ``free[model]`` waiting jobs of each model, oldest first."""
        claimed: list[str] = []
        with self._change("gateway") as connection:
            for model, slots in free.items():
                rows = connection.execute(
                    f"SELECT id FROM jobs WHERE state IN ({_WAITING}) AND model = ? ORDER BY number LIMIT ?",
                    (model, slots),
                ).fetchall()
                claimed += [row[0] for row in rows]
            moment = self._clock()
            for id in claimed:
                connection.execute(
                    "UPDATE jobs SET state = ?, description = '', attempt = attempt + 1, leased_by = ?, "
                    "lease_until = ?, changed_at = ? WHERE id = ?",
                    (State.DISPATCHED, worker, moment + lease_s, moment, id),
                )
                self._event(connection, id, State.DISPATCHED, "Sent to a replica.")
        return [job for job in map(self.job, claimed) if job]

    def deploying(self, model: str, state: State, description: str) -> None:
        """Tell the jobs that wait for ``model`` how far it is (``PROVISIONING`` or ``DEPLOYING``)."""
        with self._change("gateway") as connection:
            rows = connection.execute(
                f"SELECT id FROM jobs WHERE state IN ({_WAITING}) AND model = ? AND (state != ? OR description != ?)",
                (model, state, description),
            ).fetchall()
            for (id,) in rows:
                connection.execute(
                    "UPDATE jobs SET state = ?, description = ?, changed_at = ? WHERE id = ?",
                    (state, description, self._clock(), id),
                )
                self._event(connection, id, state, description)

    def refuse_waiting(self, model: str, description: str, meta: Mapping[str, Any]) -> None:
        """End every job that waits for ``model`` with an error: the model cannot be loaded."""
        with self._change("gateway") as connection:
            rows = connection.execute(
                f"SELECT id FROM jobs WHERE state IN ({_WAITING}) AND model = ?", (model,)
            ).fetchall()
            for (id,) in rows:
                self._finish(connection, id, State.ERROR, description, None, 0, meta)

    def running(self, job: str, worker: str, attempt: int) -> bool:
        """The job's executor has started."""
        with self._change("gateway") as connection:
            changed = connection.execute(
                "UPDATE jobs SET state = ?, changed_at = ? "
                "WHERE id = ? AND leased_by = ? AND attempt = ? AND state = ?",
                (State.RUNNING, self._clock(), job, worker, attempt, State.DISPATCHED),
            ).rowcount
            if changed:
                self._event(connection, job, State.RUNNING, "Running.")
        return bool(changed)

    def log(self, job: str, attempt: int, text: str) -> None:
        """A line that the job printed, while it runs."""
        with self._change("gateway") as connection:
            alive = connection.execute(
                f"SELECT 1 FROM jobs WHERE id = ? AND attempt = ? AND state IN ({_CLAIMED})", (job, attempt)
            ).fetchone()
            if alive:
                self._event(connection, job, LOG, text)

    def complete(
        self, job: str, worker: str, attempt: int, result: str, result_bytes: int, meta: Mapping[str, Any]
    ) -> bool:
        """End the job with its result; False when the claim is not valid any more."""
        with self._change("gateway") as connection:
            if not self._holds(connection, job, worker, attempt):
                return False
            self._finish(connection, job, State.COMPLETED, "Done.", result, result_bytes, meta)
        return True

    def fail(self, job: str, worker: str, attempt: int, description: str, meta: Mapping[str, Any]) -> bool:
        """End the job with an error; False when the claim is not valid any more."""
        with self._change("gateway") as connection:
            if not self._holds(connection, job, worker, attempt):
                return False
            self._finish(connection, job, State.ERROR, description, None, 0, meta)
        return True

    def requeue(self, job: str, worker: str, attempt: int, reason: str, attempts: int) -> None:
        """Give a claimed job back to the queue, or end it when it was claimed ``attempts`` times already."""
        with self._change("dispatcher", "gateway") as connection:
            if self._holds(connection, job, worker, attempt):
                self._requeue(connection, job, attempt, reason, attempts)

    def renew(self, worker: str, lease_s: float) -> None:
        """A sign of life of ``worker``: renews all its leases."""
        moment = self._clock()
        with self._change() as connection:
            connection.execute(
                "INSERT INTO dispatchers (name, seen_at) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at",
                (worker, moment),
            )
            connection.execute(
                f"UPDATE jobs SET lease_until = ? WHERE leased_by = ? AND state IN ({_CLAIMED})",
                (moment + lease_s, worker),
            )

    def requeue_lost(self, attempts: int, worker: str | None = None) -> int:
        """Requeue claimed jobs whose lease has run out, and all of ``worker``, whose earlier process is dead."""
        with self._change("gateway") as connection:
            rows = connection.execute(
                f"SELECT id, attempt FROM jobs WHERE state IN ({_CLAIMED}) AND (lease_until < ? OR leased_by = ?)",
                (self._clock(), worker),
            ).fetchall()
            for id, attempt in rows:
                self._requeue(connection, id, attempt, "The dispatcher was lost; the job starts again.", attempts)
        return len(rows)

    def dispatcher_seen_at(self) -> float | None:
        """When a dispatcher last gave a sign of life."""
        value = self._read("SELECT max(seen_at) FROM dispatchers")[0][0]
        return None if value is None else float(value)

    def deploy(self, model: str, state: str, description: str, replicas: int) -> None:
        """Note what is known of a model's replicas, for the status page and clients."""
        with self._change("gateway") as connection:
            connection.execute(
                "INSERT INTO deployments (model, state, description, replicas, seen_at) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (model) DO UPDATE SET state = excluded.state, description = excluded.description, "
                "replicas = excluded.replicas, seen_at = excluded.seen_at",
                (model, state, description, replicas, self._clock()),
            )

    def deployments(self) -> dict[str, Deployment]:
        """What is known of every model that was ever deployed here."""
        rows = self._read("SELECT model, state, description, replicas, seen_at FROM deployments")
        return {row[0]: Deployment(*row) for row in rows}

    # -- one change, used by several of the above -----------------------------

    def _holds(self, connection: sqlite3.Connection, job: str, worker: str, attempt: int) -> bool:
        row = connection.execute(
            f"SELECT 1 FROM jobs WHERE id = ? AND leased_by = ? AND attempt = ? AND state IN ({_CLAIMED})",
            (job, worker, attempt),
        ).fetchone()
        return row is not None

    def _requeue(self, connection: sqlite3.Connection, job: str, attempt: int, reason: str, attempts: int) -> None:
        if attempt >= attempts:
            text = f"{reason} It was started {attempt} times without an end and is given up; send it again to retry."
            self._finish(connection, job, State.ERROR, text, None, 0, {"code": "attempts-used-up"})
            return
        connection.execute(
            "UPDATE jobs SET state = ?, description = ?, leased_by = NULL, lease_until = NULL, changed_at = ? "
            "WHERE id = ?",
            (State.QUEUED, reason, self._clock(), job),
        )
        self._event(connection, job, State.QUEUED, reason)

    def _finish(
        self,
        connection: sqlite3.Connection,
        job: str,
        state: State,
        description: str,
        result: str | None,
        result_bytes: int,
        meta: Mapping[str, Any],
    ) -> None:
        connection.execute(
            "UPDATE jobs SET state = ?, description = ?, leased_by = NULL, lease_until = NULL, changed_at = ?, "
            "result = ?, result_bytes = ?, meta = ? WHERE id = ?",
            (state, description, self._clock(), result, result_bytes, json.dumps(dict(meta)), job),
        )
        self._event(connection, job, state, description)


def _job(row: tuple[Any, ...]) -> Job:
    values = list(row)
    values[5] = bool(row[5])
    values[6] = json.loads(row[6])
    values[8] = State(row[8])
    values[16] = json.loads(row[16])
    return Job(*values)
