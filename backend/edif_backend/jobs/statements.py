"""Conditions on jobs, and the statements that every job needs, built once; the rest is built where it is used.

For :mod:`~edif_backend.jobs.reading` and :mod:`~edif_backend.jobs.table` alone.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, update

from edif_backend.jobs import schema
from edif_protocol.wire import WAITING_STATES, State

t = schema.jobs.c


def _one_of(*states: State) -> ColumnElement[bool]:
    """In one of these states, which are spelled out: SQLite takes the index ``jobs_waiting`` only for its own words."""
    return t.state.in_([literal_column(f"'{state}'") for state in sorted(states)])


WAITING = _one_of(*WAITING_STATES)
CLAIMED = _one_of(State.DISPATCHED, State.RUNNING)
UNDER_WAY = _one_of(*WAITING_STATES, State.DISPATCHED, State.RUNNING)
KEPT = (t.state == State.COMPLETED) & t.result.is_not(None)
JOB = (
    *(t.id, t.user, t.session_id, t.model, t.model_key, t.compress, t.env, t.payload_bytes, t.state),
    *(t.description, t.attempt, t.leased_by, t.created_at, t.changed_at, t.result, t.result_bytes, t.meta),
    t.time_limit_s,
)
e = schema.events.c

FIND = select(*JOB).where(t.id == bindparam("job"))
EVENTS = select(e.id, e.job, e.session_id, e.kind, e.description, e.at).order_by(e.id)
EVENTS_AFTER = EVENTS.where(e.id > bindparam("after")).limit(bindparam("most"))
EVENTS_OF = EVENTS.where(e.job == bindparam("of_job"), e.id > bindparam("after")).limit(bindparam("most"))
LAST_EVENT = select(func.coalesce(func.max(e.id), 0))
WAITING_BY_USER = select(t.model, t.user, func.count()).where(WAITING).group_by(t.model, t.user)
OLDEST = (
    select(t.id)
    .where(WAITING, t.model == bindparam("of_model"), t.user == bindparam("of_user"))
    .order_by(t.number)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)  # what another dispatcher is claiming is not waited for
)
CLAIM = (
    update(schema.jobs)
    .where(t.id == bindparam("job"))
    .values(
        state=State.DISPATCHED,
        description="",
        attempt=t.attempt + 1,
        leased_by=bindparam("worker"),
        lease_until=bindparam("until"),
        changed_at=bindparam("moment"),
        meta={},  # what it was told while it waited
    )
    .returning(t.number, *JOB)
)
RUNNING = (
    update(schema.jobs)
    .where(
        t.id == bindparam("job"),
        t.leased_by == bindparam("worker"),
        t.attempt == bindparam("claim"),
        t.state == State.DISPATCHED,
    )
    .values(state=State.RUNNING, changed_at=bindparam("moment"))
)
ALIVE = (
    select(t.id, t.user, t.attempt, t.excused, t.state)
    .where(t.id == bindparam("job"), t.attempt == bindparam("claim"), CLAIMED)
    .with_for_update()  # a line must not come after the event that ends its job
)
HOLDS = ALIVE.where(t.leased_by == bindparam("worker"))
CANCELLED_MEANWHILE = select(t.id, t.user).where(
    t.id == bindparam("job"), t.attempt == bindparam("claim"), t.state == State.CANCELLED
)
MOVE = (
    update(schema.jobs)
    .where(t.id == bindparam("job"))
    .values(
        state=bindparam("to"),
        description=bindparam("said"),
        leased_by=None,
        lease_until=None,
        changed_at=bindparam("moment"),
    )
)
NOTE = (
    update(schema.jobs)
    .where(t.id == bindparam("job"))
    .values(
        description=func.coalesce(bindparam("said", type_=t.description.type), t.description), meta=bindparam("facts")
    )
)
FINISH = MOVE.values(result=bindparam("object"), result_bytes=bindparam("size"), meta=bindparam("facts"))
HELD = select(t.id, t.attempt).where(t.leased_by == bindparam("worker"), CLAIMED)
EXCUSE = update(schema.jobs).where(t.id == bindparam("job")).values(excused=t.excused + 1)
CLAIMS_OF = select(*JOB).where(CLAIMED, t.leased_by == bindparam("worker")).order_by(t.number)
RENEW = update(schema.jobs).where(t.leased_by == bindparam("worker"), CLAIMED).values(lease_until=bindparam("until"))


def locked(*conditions: ColumnElement[bool]) -> Select[str, int, str, int]:
    """The jobs that meet the conditions, oldest first, locked until the transaction ends."""
    return select(t.id, t.attempt, t.state, t.excused).where(*conditions).order_by(t.number).with_for_update()
