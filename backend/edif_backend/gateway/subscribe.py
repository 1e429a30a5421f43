"""``/subscribe``: a websocket that tells a waiting client everything about its jobs, as it happens.

The client opens the socket before it sends its job and closes it when it has its result.  A client that has lost it
opens another one and names its jobs and the last event it heard of each (:class:`edif_protocol.wire.Resume`): it is
told what it missed, in order and once, and then what happens.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from fastapi import APIRouter, WebSocket
from pydantic import ValidationError
from starlette.websockets import WebSocketDisconnect

from edif_backend.errors import NotServing
from edif_backend.gateway import torchfile
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.gateway.sessions import Session
from edif_backend.jobs import Event, Job, Jobs
from edif_backend.objects.store import SMALL_BYTES
from edif_protocol.wire import LOG, Response, Resume, State

log = structlog.get_logger(__name__)

routes = APIRouter()

#: A client that has not sent a job this long after subscribing is hung up on.
IDLE_S = 120.0

#: Whose job has been silent this long is told when nobody works on it.
_STILL_S = 10.0


@routes.websocket("/subscribe")
async def subscribe(socket: WebSocket) -> None:
    """Send ``{"session_id": …, "resume": true, "envoys": true}``, then every event of this session's jobs.

    The flags are what a client may do here that NDIF does not know: go on after a loss, and name envoys in payloads.
    """
    parts = parts_of(socket)
    # A wrong key is not refused here: POST /request refuses it, and there the client shows the sentence to its user.
    user = await parts.user_or_none(socket)
    await socket.accept()
    session = parts.sessions.open(user.name if user else None)
    teller = asyncio.create_task(_tell(socket, session, parts))
    try:
        while True:  # clients of nnsight send nothing; this notices that one has gone
            await _take_up(Resume.model_validate_json(await socket.receive_text()), socket, session, parts)
    except (WebSocketDisconnect, KeyError):  # KeyError: bytes, which no client sends
        pass
    except ValidationError:
        await socket.close(code=1008, reason='send {"resume": {job id: last event id}}, or nothing')
    except NotServing:
        await socket.close(code=1013, reason="the jobs table is away; come again")
    finally:
        teller.cancel()
        parts.sessions.close(session)


async def _take_up(wanted: Resume, socket: WebSocket, session: Session, parts: Parts) -> None:
    for id, after in wanted.resume.items():
        if not await parts.sessions.resume(session, id, after):
            refused = Response(id=id, status=State.ERROR.value, description="There is no such job of yours.")
            await socket.send_text(refused.model_dump_json(exclude_none=True))


async def _tell(socket: WebSocket, session: Session, parts: Parts) -> None:
    await socket.send_json({"session_id": session.id, "resume": True, "envoys": True})
    while True:
        try:
            async with asyncio.timeout(_STILL_S if session.waited_for else IDLE_S):
                event = await session.events.get()
        except TimeoutError:
            if session.waited_for:
                await _say_if_nobody_works(socket, session.waited_for, parts)
                continue
            await socket.close(code=1000, reason="no job was sent")
            return
        if event is None:
            await socket.close(code=1013, reason="too slow to follow; poll /response instead")
            return
        try:
            await _tell_event(socket, event, parts)
        except (NotServing, OSError) as error:  # the client comes again and hears it then
            log.warning("an event cannot be told", job=event.job, reason=str(error))
            await socket.close(code=1013, reason="job or result cannot be read now; come again")
            return
        if event.kind != LOG and State(event.kind).final:
            session.waited_for.discard(event.job)


async def _tell_event(socket: WebSocket, event: Event, parts: Parts) -> None:
    if event.kind == LOG or not State(event.kind).final:
        await _send(socket, event, event.kind)
        return
    job = await parts.ask.small(Jobs.job, event.job)
    if job and _goes_along(job, parts):
        small = parts.objects.near and job.result_bytes <= SMALL_BYTES
        await socket.send_bytes(_message(job, parts) if small else await asyncio.to_thread(_message, job, parts))
    elif job and event.kind == State.COMPLETED == job.state:
        response = (await parts.response(job, socket)).model_copy(update={"event": event.id})
        await socket.send_text(response.model_dump_json())
    elif event.kind != State.COMPLETED:  # a result that is gone is told by the event after it
        await _send(socket, event, State(event.kind).status, job.meta if job else None)


def _goes_along(job: Job, parts: Parts) -> bool:
    """Whether the job has a result that goes with the message of its end."""
    there = bool(job.result) and job.state == State.COMPLETED
    return there and job.result_bytes <= parts.settings.inline_result_bytes


def _message(job: Job, parts: Parts) -> bytes:
    """The message of the job's end, its result in it."""
    assert job.result
    told = {"id": job.id, "status": State.COMPLETED.value, "description": job.description, "meta": job.meta}
    return torchfile.dumps({**told, "data": parts.objects.read(job.result)})


async def _say_if_nobody_works(socket: WebSocket, waited_for: set[str], parts: Parts) -> None:
    """What the dispatcher cannot say: that there is none."""
    with contextlib.suppress(NotServing):  # nor when the table is away as well
        if not await parts.nobody_works():
            return
        for id in sorted(waited_for):
            job = await parts.ask(Jobs.job, id)
            if job and not job.state.final:
                await socket.send_text((await parts.response(job, socket)).model_dump_json(exclude_none=True))


async def _send(socket: WebSocket, event: Event, status: str, meta: dict[str, object] | None = None) -> None:
    response = Response(id=event.job, status=status, description=event.description, meta=meta, event=event.id)
    await socket.send_text(response.model_dump_json(exclude_none=True))
