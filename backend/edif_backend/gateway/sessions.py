"""The open websockets of this gateway process, and the one task that hands them their events.

:mod:`~edif_backend.gateway.subscribe` opens and closes sessions; requests ask whose a session is.  A session's id is
signed with its owner's name, so whichever gateway gets the request can tell, and the events find the websocket through
the jobs table.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from edif_backend.errors import NotServing
from edif_backend.gateway.asking import Asking
from edif_backend.jobs import Bell, Event, Jobs
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: Events kept for one slow client; a client further behind is hung up on and polls or comes again.
BACKLOG = 10_000

#: Events read at once.
_AT_ONCE = 1_000


@dataclass(slots=True)
class Session:
    """One open websocket."""

    id: str
    owner: str | None  #: user name, None when the key was not valid
    #: what is to be told; None hangs up
    events: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(BACKLOG))
    waited_for: set[str] = field(default_factory=set)  #: jobs whose end was not told yet
    #: jobs of a lost websocket that are told here now, and the last event of each that was read for it alone
    resumed: dict[str, int] = field(default_factory=dict)
    behind: dict[str, list[Event]] = field(default_factory=dict)  #: held back until what was missed is told


class Sessions:
    """The open websockets of this gateway process.

    Args:
        secret: signs the ids of sessions; the same in every gateway of the installation.
        seen: id of the newest event, which nobody here waits for.
    """

    def __init__(self, ask: Asking, secret: str, seen: int) -> None:
        self._ask = ask
        self._secret = secret.encode()
        self._sessions: dict[str, Session] = {}
        self._resumed: defaultdict[str, set[str]] = defaultdict(set)  # sessions by the job that is told there
        self._seen = seen
        self._news = asyncio.Event()

    def open(self, owner: str | None) -> Session:
        """A new session with an id that nobody can guess."""
        id = secrets.token_hex(12)
        id += self._signature(id, owner) if owner is not None else secrets.token_hex(20)  # belongs to nobody
        self._sessions[id] = Session(id, owner)
        return self._sessions[id]

    def close(self, session: Session) -> None:
        """Forget a session."""
        self._sessions.pop(session.id, None)
        for job in session.resumed:
            self._resumed[job].discard(session.id)
            if not self._resumed[job]:
                del self._resumed[job]
        session.resumed.clear()

    def belongs(self, id: str, user: str) -> bool:
        """Whether a gateway of this installation opened this session for ``user``."""
        return hmac.compare_digest(id[24:].encode(), self._signature(id[:24], user).encode())

    def _signature(self, id: str, owner: str) -> str:
        return hmac.new(self._secret, f"session\n{id}\n{owner}".encode(), hashlib.sha256).hexdigest()[:40]

    async def resume(self, session: Session, job: str, after: int) -> bool:
        """Tell here what happened to a job after the event ``after``, and what will; False unless it is the owner's.

        Raises:
            NotServing: the table cannot be read.
        """
        found = await self._ask(Jobs.job, job)
        if found is None or found.user != session.owner:
            return False
        held = session.behind.setdefault(job, [])
        session.resumed[job] = after
        self._resumed[job].add(session.id)
        missed = await self._ask(Jobs.events_of, job, after)
        for event in (*missed, *held):  # what came while they were read may be among them
            if event.id > after:
                after = event.id
                self._tell(session, event)
        session.behind.pop(job, None)
        session.resumed[job] = after  # `follow` may be behind, and hands over later what was told just now
        return True

    @property
    def newest(self) -> int:
        """Id of the newest event that was handed on."""
        return self._seen

    async def news(self, after: int, timeout_s: float) -> None:
        """Wait until there are events of whatever job newer than ``after``, at most ``timeout_s``."""
        if self._seen != after:
            return
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), timeout_s)

    async def follow(self, bell: Bell) -> None:
        """Hand new events to their sessions, for ever."""
        while True:
            try:
                full = True
                while full:  # what comes after a reading that was not full rings again
                    events = await self._ask.small(Jobs.events_after, self._seen, _AT_ONCE)
                    full = len(events) == _AT_ONCE
                    self._hand_over(events)
            except NotServing as error:  # the database comes back, and then clients hear what they missed
                log.error("events cannot be read", reason=str(error))
            await bell.wait(timeout_s=1.0)

    def _hand_over(self, events: Sequence[Event]) -> None:
        for event in events:
            self._seen = event.id
            for id in {event.session_id, *self._resumed.get(event.job, ())}:
                if session := self._sessions.get(id):
                    if event.job in session.behind:
                        session.behind[event.job].append(event)
                    elif event.id > session.resumed.get(event.job, 0):
                        self._tell(session, event)
        if events:
            self._news.set()  # wakes who waits now; who comes later waits for the next
            self._news.clear()

    def _tell(self, session: Session, event: Event) -> None:
        if event.kind == State.RECEIVED:  # that one was the answer to the request itself
            return
        if session.events.full():
            log.warning("client too slow, hung up on", job=event.job)
            while not session.events.empty():
                session.events.get_nowait()
            session.events.put_nowait(None)
            self.close(session)
            return
        session.waited_for.add(event.job)
        session.events.put_nowait(event)
