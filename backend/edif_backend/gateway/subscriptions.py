"""``/subscribe``: a websocket that tells a waiting client everything about its jobs, as it happens.

One task follows the events of the jobs table and hands each to the session it belongs to.  The client opens the socket
before it sends its job and closes it when it has its result.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from edif_backend.gateway import torchfile
from edif_backend.jobs import Bell, Event, Job, Jobs
from edif_backend.objects.folder import Objects
from edif_protocol.wire import LOG, Response, State

log = structlog.get_logger(__name__)
routes = APIRouter()

#: A client that has not sent a job this long after subscribing is hung up on.
IDLE_S = 120.0
#: Events kept for one slow client; a client further behind is hung up on and polls or comes again.
BACKLOG = 10_000


@dataclass(slots=True)
class Session:
    """One open websocket."""

    owner: str | None  #: user name, None when the key was not valid
    events: asyncio.Queue[Event] = field(default_factory=lambda: asyncio.Queue(BACKLOG))


class Subscriptions:
    """The open websockets of this gateway process."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._sessions: dict[str, Session] = {}
        self._seen = jobs.last_event()

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

    async def follow(self, bell: Bell) -> None:
        """Hand new events to their sessions, for ever."""
        while True:
            for event in self._jobs.events_after(self._seen):
                self._seen = event.id
                session = self._sessions.get(event.session_id)
                if session and not session.events.full():
                    session.events.put_nowait(event)
                elif session:
                    log.warning("client too slow, hung up on", job=event.job)
                    self.close(event.session_id)
            await bell.wait(timeout_s=1.0)


@routes.websocket("/subscribe")
async def subscribe(socket: WebSocket) -> None:
    """Send ``{"session_id": …}``, then every event of this session's jobs."""
    from edif_backend.gateway.parts import parts_of  # noqa: PLC0415 - parts holds Subscriptions

    parts = parts_of(socket)
    # A wrong key is not refused here: POST /request refuses it, and there the client shows the sentence to its user.
    user = await parts.user_or_none(socket)
    await socket.accept()
    id, session = parts.subscriptions.open(user.name if user else None)
    teller = asyncio.create_task(
        _tell(socket, id, session, parts.jobs, parts.objects, parts.settings.inline_result_bytes, parts.result_url)
    )
    try:
        while True:  # clients of nnsight send nothing; this notices that one has gone
            await socket.receive_bytes()
    except (WebSocketDisconnect, KeyError):
        pass
    finally:
        teller.cancel()
        parts.subscriptions.close(id)


async def _tell(
    socket: WebSocket,
    id: str,
    session: Session,
    jobs: Jobs,
    objects: Objects,
    inline_bytes: int,
    result_url: Callable[[str], str],
) -> None:
    await socket.send_json({"session_id": id})
    waited_for: set[str] = set()
    while True:
        try:
            event = await asyncio.wait_for(session.events.get(), None if waited_for else IDLE_S)
        except TimeoutError:
            await socket.close(code=1000, reason="no job was sent")
            return
        waited_for.add(event.job)
        if event.kind == State.COMPLETED:
            job = jobs.job(event.job)
            if job:
                await _send_result(socket, job, objects, inline_bytes, result_url)
        elif event.kind in (State.ERROR, State.CANCELLED, State.EXPIRED):
            job = jobs.job(event.job)
            await _send(socket, event, State.ERROR, job.meta if job else None)
        else:
            await _send(socket, event, event.kind if event.kind == LOG else State(event.kind).status, None)
        if event.kind != LOG and State(event.kind).final:
            waited_for.discard(event.job)


async def _send(socket: WebSocket, event: Event, status: str, meta: dict[str, object] | None) -> None:
    response = Response(id=event.job, status=status, description=event.description, meta=meta)
    await socket.send_text(response.model_dump_json(exclude_none=True))


async def _send_result(
    socket: WebSocket, job: Job, objects: Objects, inline_bytes: int, result_url: Callable[[str], str]
) -> None:
    assert job.result is not None
    if job.result_bytes > inline_bytes:
        response = Response(
            id=job.id, status=State.COMPLETED, description=job.description, data=result_url(job.result), meta=job.meta
        )
        await socket.send_text(response.model_dump_json())
        return
    data = objects.read(job.result)
    record = {"id": job.id, "status": State.COMPLETED.value, "description": job.description, "data": data, "meta": job.meta}
    await socket.send_bytes(torchfile.dumps(record))
