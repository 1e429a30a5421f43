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
