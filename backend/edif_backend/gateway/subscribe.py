"""``/subscribe``: a websocket that tells a waiting client everything about its jobs, as it happens.

The client opens the socket before it sends its job and closes it when it has its result.
"""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from edif_backend.gateway import torchfile
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.gateway.sessions import Session
from edif_backend.jobs import Event, Job
from edif_protocol.wire import LOG, Response, State

routes = APIRouter()

#: A client that has not sent a job this long after subscribing is hung up on.
IDLE_S = 120.0

#: Whose job has been silent this long is told when nobody works on it.
_STILL_S = 10.0


@routes.websocket("/subscribe")
async def subscribe(socket: WebSocket) -> None:
    """Send ``{"session_id": …}``, then every event of this session's jobs."""
    parts = parts_of(socket)
    # A wrong key is not refused here: POST /request refuses it, and there the client shows the sentence to its user.
    user = await parts.user_or_none(socket)
    await socket.accept()
    id, session = parts.sessions.open(user.name if user else None)
    teller = asyncio.create_task(_tell(socket, id, session, parts))
    try:
        while True:  # clients of nnsight send nothing; this notices that one has gone
            await socket.receive_bytes()
    except (WebSocketDisconnect, KeyError):
        pass
    finally:
        teller.cancel()
        parts.sessions.close(id)


async def _tell(socket: WebSocket, id: str, session: Session, parts: Parts) -> None:
    await socket.send_json({"session_id": id})
    waited_for: set[str] = set()
    while True:
        try:
            event = await asyncio.wait_for(session.events.get(), _STILL_S if waited_for else IDLE_S)
        except TimeoutError:
            if waited_for:
                await _say_if_nobody_works(socket, waited_for, parts)
                continue
            await socket.close(code=1000, reason="no job was sent")
            return
        if event is None:
            await socket.close(code=1013, reason="too slow to follow; poll /response instead")
            return
        waited_for.add(event.job)
        if event.kind == LOG:
            await _send(socket, event, LOG)
            continue
        state = State(event.kind)
        job = parts.jobs.job(event.job) if state.final else None
        if job and state is State.COMPLETED:
            await _send_result(socket, job, parts)
        else:
            await _send(socket, event, state.status, job.meta if job else None)
        if state.final:
            waited_for.discard(event.job)


async def _say_if_nobody_works(socket: WebSocket, waited_for: set[str], parts: Parts) -> None:
    """What the dispatcher cannot say: that there is none."""
    if not parts.nobody_works():
        return
    for job in filter(None, map(parts.jobs.job, sorted(waited_for))):
        if not job.state.final:
            await socket.send_text(parts.response(job).model_dump_json(exclude_none=True))


async def _send(socket: WebSocket, event: Event, status: str, meta: dict[str, object] | None = None) -> None:
    response = Response(id=event.job, status=status, description=event.description, meta=meta)
    await socket.send_text(response.model_dump_json(exclude_none=True))


async def _send_result(socket: WebSocket, job: Job, parts: Parts) -> None:
    assert job.result is not None
    if job.result_bytes > parts.settings.inline_result_bytes:
        await socket.send_text(parts.response(job).model_dump_json())
        return
    data = await asyncio.to_thread(parts.objects.read, job.result)
    record = {
        "id": job.id,
        "status": State.COMPLETED.value,
        "description": job.description,
        "data": data,
        "meta": job.meta,
    }
    await socket.send_bytes(torchfile.dumps(record))
