"""What a job is.

States and their order (:class:`edif_protocol.wire.State`; every arrow is an event with a monotonic id)::

    RECEIVED → QUEUED → (PROVISIONING → DEPLOYING) → DISPATCHED → RUNNING → COMPLETED | ERROR
                 ↑                                        │           │
                 └────────── replica or executor lost ────┴───────────┘

A waiting or running job may also become CANCELLED, and a completed one EXPIRED.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from edif_protocol.wire import State


@dataclass(frozen=True, slots=True)
class Submission:
    """A checked request, ready to become a job; its payload is stored already."""

    id: str
    user: str
    session_id: str  #: websocket session that listens, "" for a client that polls
    model: str  #: id in the catalogue
    model_key: str
    compress: bool  #: zstd, for payload and result alike
    env: dict[str, Any]
    payload_bytes: int
    time_limit_s: float = 600.0  #: longest run
    groups: tuple[str, ...] = ()  #: of the user, as the hub says now


@dataclass(frozen=True, slots=True)
class Job:
    """One row of the jobs table."""

    id: str
    user: str
    session_id: str
    model: str
    model_key: str
    compress: bool
    env: dict[str, Any]
    payload_bytes: int
    state: State
    description: str
    attempt: int  #: how often it was claimed
    leased_by: str | None
    created_at: float  #: seconds since the epoch, UTC
    changed_at: float
    result: str | None  #: name of the result object
    result_bytes: int
    meta: dict[str, Any] = field(default_factory=dict)
    time_limit_s: float = 600.0  #: longest run

    @property
    def payload(self) -> str:
        """Name of the payload object."""
        return f"payloads/{self.id}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a job, or a line that it printed (kind ``LOG``)."""

    id: int
    job: str
    session_id: str
    kind: str
    description: str
    at: float


@dataclass(frozen=True, slots=True)
class Deployment:
    """What the dispatcher last said of one model."""

    model: str
    state: str  #: NOT_STARTED, DEPLOYING, RUNNING or UNHEALTHY, the words of nnsight's status table
    description: str
    replicas: int
    seen_at: float
    wait_s: float | None = None  #: how long a job of somebody new is expected to wait


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """What is needed of a waiting job to tell when it starts."""

    id: str
    user: str
    model: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Note:
    """What a waiting job is told."""

    job: str
    description: str | None  #: None: what it was told stays
    position: int | None  #: how many jobs start before it; None: it does not start for now
    starts_at: float | None  #: when it is expected to start, seconds since the epoch


@dataclass(frozen=True, slots=True)
class Use:
    """What a user has under way, keeps, and has used today."""

    queued_jobs: int = 0
    running_jobs: int = 0
    payload_bytes: int = 0  #: of waiting and running jobs
    stored_bytes: int = 0  #: results that are kept
    device_seconds_today: float = 0.0  #: since midnight UTC


@dataclass(frozen=True, slots=True)
class Reservation:
    """For a while, a group's members have (at least) this weight: a course's lab hour."""

    id: str
    group: str
    weight: float
    starts_at: float  #: seconds since the epoch, UTC
    ends_at: float
