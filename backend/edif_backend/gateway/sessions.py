"""The open websockets of this gateway process, and the one task that hands them their events.

:mod:`~edif_backend.gateway.subscribe` opens and closes sessions; requests ask whose a session is.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from dataclasses import dataclass, field

import structlog

from edif_backend.errors import NotServing
from edif_backend.jobs import Bell, Event, Jobs
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: Events kept for one slow client; a client further behind is hung up on and polls or comes again.
BACKLOG = 10_000


@dataclass(slots=True)
class Session:
    """One open websocket."""

    owner: str | None  #: user name, None when the key was not valid
    #: what is to be told; None hangs up
    events: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(BACKLOG))


class Sessions:
    """The open websockets of this gateway process."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._sessions: dict[str, Session] = {}
        self._seen = jobs.last_event()
        self._news = asyncio.Event()

    def open(self, owner: str | None) -> tuple[str, Session]:
        """A new session and its unguessable id."""
        id = secrets.token_hex(16)
        self._sessions[id] = Session(owner)
        return id, self._sessions[id]

    def close(self, id: str) -> None:
        """Forget a session."""
        self._sessions.pop(id, None)

    def owner(self, id: str) -> str | None:
        """Whose session it is; None when it is not open."""
        session = self._sessions.get(id)
        return session.owner if session else None

    async def news(self, timeout_s: float) -> None:
        """Wait until there are new events of whatever job, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)

    async def follow(self, bell: Bell) -> None:
        """Hand new events to their sessions, for ever."""
        while True:
            try:
                while events := self._jobs.events_after(self._seen):
                    self._seen = events[-1].id
                    for event in events:
                        self._hand_over(event)
                    self._news.set()  # wakes who waits now; who comes later waits for the next
                    self._news.clear()
            except NotServing as error:  # the database comes back, and then clients hear what they missed
                log.error("events cannot be read", reason=str(error))
            await bell.wait(timeout_s=1.0)

    def _hand_over(self, event: Event) -> None:
        session = self._sessions.get(event.session_id)
        if session is None or event.kind == State.RECEIVED:  # that one was the answer to the request itself
            return
        if session.events.full():
            log.warning("client too slow, hung up on", job=event.job)
            while not session.events.empty():
                session.events.get_nowait()
            session.events.put_nowait(None)
            self.close(event.session_id)
            return
        session.events.put_nowait(event)
