"""What the dispatcher asks of a replica and what it hears back: plain values, nothing else passes between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One job, claimed."""

    job: str
    user: str
    worker: str  #: the dispatcher that holds the claim
    attempt: int
    payload: str  #: name of the payload object
    payload_bytes: int
    compress: bool
    env: dict[str, Any]
    time_limit_s: float  #: longest run
    keep_bytes: int  #: what the user may keep in all (edif.keep); 0: anything


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended.  ``code`` is ``"ok"`` or that of an error (:mod:`edif_backend.errors`)."""

    code: str
    description: str = ""
    requeue: bool = False
    result: str = ""  #: name of the result object
    result_bytes: int = 0
    sha256: str = ""  #: of the result object, in hex
    seconds: dict[str, float] = field(default_factory=dict)
    started_at: float | None = None  #: when its executor started, by the replica's clock; None: it never did


@dataclass(frozen=True, slots=True)
class Census:
    """What a replica tells a dispatcher that has not known it."""

    node: str  #: of Ray
    jobs: tuple[tuple[str, int], ...]  #: that it runs or has ended, by id and attempt
    parts: tuple[tuple[str, int], ...]  #: devices of the node, and what it has of each
    parked: bool  #: it waits without executors
