"""What users have under way and have used, judged and charged inside the transactions of the jobs table.

For :mod:`~edif_backend.jobs.table` alone.  The row of a user in ``users`` is locked by whoever judges the user's
limits, so that several gateways do so one after the other; a job is judged when it is already counted.  Before that,
it is judged once by what can be read without a lock, so that most of what is refused is never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import Executable, bindparam, func, select

from edif_backend.errors import LimitReached
from edif_backend.jobs import schema
from edif_backend.jobs import statements as sql
from edif_backend.jobs.database import AnyRow, Change
from edif_backend.jobs.job import Submission
from edif_backend.settings import Limits
from edif_protocol.wire import WAITING_STATES, State

_MINE = sql.t.user == bindparam("of_user")
UNDER_WAY = (
    select(sql.t.state, func.count(), func.coalesce(func.sum(sql.t.payload_bytes), 0))
    .where(_MINE, sql.UNDER_WAY)
    .group_by(sql.t.state)
)
_c = schema.charges.c
CHARGED = select(_c.device_s).where(_c.user == bindparam("of_user"), _c.day == bindparam("of_day"))
_FIRST_WAITING = select(sql.t.meta).where(_MINE, sql.WAITING).order_by(sql.t.number).limit(1)

#: Gives the rows of a statement with its values: of a transaction, or as they stand.
Read: TypeAlias = Callable[[Executable, Mapping[str, Any]], Iterable[AnyRow]]

#: When nothing is known about when a user's next job starts.
_SOON_S = 10.0


def day_of(moment: float) -> str:
    """The day, in UTC, by which device-seconds are counted."""
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def day_ends_at(moment: float) -> float:
    """The next midnight, in UTC."""
    midnight = datetime.fromtimestamp(moment, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (midnight + timedelta(days=1)).timestamp()


def know_user(change: Change, submission: Submission, moment: float) -> None:
    """Note who sends the job and in which groups they are; until the transaction ends the user is judged here alone."""
    row = {"name": submission.user, "member_of": sorted(submission.groups), "seen_at": moment}
    change.put(schema.users, row)


def judge(read: Read, of_user: str, size_bytes: int, limits: Limits, moment: float, *, counted: bool) -> None:
    """Refuse a job with a payload of ``size_bytes`` when its user is over a limit with it.

    Args:
        counted: it is in the table already.

    Raises:
        LimitReached: which one, how much is in use, and when it ends.
    """
    user = {"of_user": of_user}
    waiting, payload_bytes = (0, 0) if counted else (1, size_bytes)
    for state, count, size in read(UNDER_WAY, user):
        waiting += count if State(state) in WAITING_STATES else 0
        payload_bytes += size
    if limits.queued_jobs and waiting > limits.queued_jobs:
        next_s = _next_start_s(read, user, moment)
        raise LimitReached(
            f"{waiting - 1} jobs of yours are waiting, and at most {limits.queued_jobs} may wait at once. "
            f"The next one starts in about {in_words(next_s)}; send more then, or do more in one trace.",
            next_s,
        )
    if limits.payload_bytes and payload_bytes > limits.payload_bytes:
        next_s = _next_start_s(read, user, moment)
        before = payload_bytes - size_bytes
        raise LimitReached(
            f"With this one the payloads of your waiting and running jobs would have {payload_bytes:,} bytes, and at "
            f"most {limits.payload_bytes:,} may be under way ({before:,} are). There is more room when jobs of yours "
            f"have ended, at the earliest in about {in_words(next_s)}; or send less data with each trace.",
            next_s,
        )
    if limits.device_seconds_per_day:
        _judge_day(read, user, limits, moment)


def _judge_day(read: Read, user: dict[str, Any], limits: Limits, moment: float) -> None:
    used_s = next((used for (used,) in read(CHARGED, {**user, "of_day": day_of(moment)})), 0.0)
    if used_s >= limits.device_seconds_per_day:
        left_s = day_ends_at(moment) - moment
        raise LimitReached(
            f"Your jobs have run {used_s:,.0f} s on the devices today, and {limits.device_seconds_per_day:,.0f} s a "
            f"day is your limit. The count starts anew at midnight UTC, in {in_words(left_s)}.",
            left_s,
        )


def charge(change: Change, user: str, seconds: float, moment: float) -> None:
    """Count ``seconds`` on a device as used by ``user`` on the day of ``moment``."""
    change.add_up(schema.charges, {"user": user, "day": day_of(moment), "device_s": seconds, "jobs": 1})


def in_words(seconds: float) -> str:
    """A span of time for a sentence: ``8 s``, ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _next_start_s(read: Read, user: dict[str, Any], moment: float) -> float:
    starts_at = next((meta.get("starts_at") for (meta,) in read(_FIRST_WAITING, user)), None)
    return max(1.0, starts_at - moment) if isinstance(starts_at, int | float) else _SOON_S
