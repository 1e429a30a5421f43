"""States, sizes and times as people read them: on the gateway's page and in the tables of the ``edif`` client."""

from __future__ import annotations

from edif_protocol.wire import WAITING_STATES, State

_STATES = {
    State.RECEIVED: "Received",
    State.QUEUED: "Waiting",
    State.PROVISIONING: "Waiting for room",
    State.DEPLOYING: "Model is loading",
    State.DISPATCHED: "Starting",
    State.RUNNING: "Running",
    State.COMPLETED: "Done",
    State.ERROR: "Failed",
    State.CANCELLED: "Cancelled",
    State.EXPIRED: "Result expired",
    "NOT_STARTED": "Not loaded",
    "UNHEALTHY": "Cannot be loaded",
}


def state(word: str) -> str:
    """The state of a job in words."""
    return _STATES.get(word, word.capitalize())


def model_state(word: str) -> str:
    """The state of a model in words."""
    return {"RUNNING": "Ready", "DEPLOYING": "Loading"}.get(word, state(word))


def tone(word: str) -> str:
    """How a state is marked: ``busy``, ``waits``, ``good``, ``bad`` or ``over``."""
    if word in (State.DISPATCHED, State.RUNNING):
        return "busy"
    if word in WAITING_STATES or word in (State.RECEIVED, "NOT_STARTED"):
        return "waits"
    if word in (State.ERROR, "UNHEALTHY"):
        return "bad"
    return "good" if word == State.COMPLETED else "over"


def size(count: float) -> str:
    """``1536`` → ``"1.5 KiB"``."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.3g} GiB"


def span(seconds: float) -> str:
    """``93.4`` → ``"1 min 33 s"``; the two largest units that matter.  ``page.js`` counts on in the same words."""
    if 0 < seconds < 1:
        return f"{max(round(seconds * 1000), 1)} ms"
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for unit_s, unit, below_s, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit_s:
            rest = whole % unit_s // below_s
            return f"{whole // unit_s} {unit}" + (f" {rest} {below}" if rest else "")
    return f"{whole} s"
