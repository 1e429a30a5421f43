"""``/jobs``: a user's own jobs: the list, what one of them said, and its cancelling."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from edif_backend.gateway.parts import parts_of
from edif_backend.jobs import Job, Jobs

routes = APIRouter()

#: Events of one answer; who has read them asks for what comes after.
_EVENTS = 500

Before = Annotated[str | None, Query(max_length=64, description="id of a job: only those older than it")]
Limit = Annotated[int, Query(ge=1, le=200)]
After = Annotated[int, Query(ge=0, lt=1 << 63, description="id of an event: only those after it")]
Wait = Annotated[float, Query(ge=0, le=30, description="how long to wait for the first, in seconds")]


def record(job: Job, now: float) -> dict[str, Any]:
    """A job as its owner is told of it at the moment ``now``.

    While it waits, ``position`` is how many jobs start before it, and ``starts_in_s`` when it is expected to start;
    they are None when that is not known, or when it does not start for now.
    """
    starts_at = job.meta.get("starts_at")
    return {
        "id": job.id,
        "model": job.model,
        "state": job.state.value,
        "ended": job.state.final,
        "description": job.description,
        "age_s": now - job.created_at,
        "took_s": job.changed_at - job.created_at,  # from its sending to its last change
        "attempt": job.attempt,
        "payload_bytes": job.payload_bytes,
        "result_bytes": job.result_bytes,
        "position": job.meta.get("position"),
        "starts_in_s": None if starts_at is None else max(0.0, starts_at - now),
    }


@routes.get("/jobs")
async def listing(request: Request, before: Before = None, limit: Limit = 50) -> dict[str, Any]:
    """The newest jobs of the asking user, newest first; ``next`` names the job to ask the rest ``before``, if any."""
    parts = parts_of(request)
    user = await parts.user(request)
    if before is not None:
        await parts.job(before, user)
    found = await parts.ask(Jobs.newest, user.name, limit + 1, before)
    now = parts.ask.now()
    return {
        "jobs": [record(job, now) for job in found[:limit]],
        "next": found[limit - 1].id if len(found) > limit else None,
    }


@routes.get("/jobs/{id}")
async def one(request: Request, id: str) -> dict[str, Any]:
    """A job of the asking user as it stands."""
    parts = parts_of(request)
    return record(await parts.job(id, await parts.user(request)), parts.ask.now())


@routes.get("/jobs/{id}/events")
async def events(request: Request, id: str, after: After = 0, wait_s: Wait = 0.0) -> dict[str, Any]:
    """What the job said and how its state changed, and the job as it stands after that.

    Without events to tell, and while the job goes on, the answer waits up to ``wait_s``.
    """
    parts = parts_of(request)
    user = await parts.user(request)
    job = await parts.job(id, user)
    newest = parts.sessions.newest
    found = await parts.ask(Jobs.events_of, id, after, _EVENTS)
    until = parts.ask.now() + wait_s
    while not found and not job.state.final and (left_s := until - parts.ask.now()) > 0:
        await parts.sessions.news(newest, left_s)
        newest = parts.sessions.newest
        found = await parts.ask(Jobs.events_of, id, after, _EVENTS)
    told = [{"id": event.id, "kind": event.kind, "description": event.description, "at": event.at} for event in found]
    job = await parts.job(id, user)
    return {"events": told, "more": len(found) == _EVENTS, "job": record(job, parts.ask.now())}


@routes.delete("/jobs/{id}")
async def cancel(request: Request, id: str) -> dict[str, Any]:
    """End a job that has not ended; gives it as it stands then, also when it had ended before."""
    parts = parts_of(request)
    user = await parts.user(request)
    return record(await parts.cancel(id, user, "Cancelled by you."), parts.ask.now())
