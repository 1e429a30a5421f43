"""``GET /usage``: what the asking user may, has in use, and waits for."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request

from edif_backend.gateway.own_jobs import record
from edif_backend.gateway.parts import parts_of
from edif_backend.jobs import Jobs
from edif_backend.jobs.accounting import day_ends_at

routes = APIRouter()


@routes.get("/usage")
async def usage(request: Request) -> dict[str, Any]:
    """Limits (0: none), use, groups, weight, reservations of these groups, and the waiting jobs in their order.

    Sizes are in bytes, times in seconds; moments are seconds since the epoch, UTC.
    """
    parts = parts_of(request)
    user = await parts.user(request)
    now = parts.ask.now()
    return {
        "user": user.name,
        "groups": sorted(user.groups),
        "weight": await parts.ask.through(parts.policy.weight, user.name, user.groups),
        "limits": (await parts.limits(user)).model_dump(exclude={"weight"}),
        "use": dataclasses.asdict(await parts.ask(Jobs.use, user.name)),
        "day_ends_at": day_ends_at(now),
        "reservations": [
            dataclasses.asdict(found) for found in await parts.ask.through(parts.policy.coming, user.groups)
        ],
        "waiting": [record(job, now) for job in await parts.ask(Jobs.waiting_of, user.name)],
    }
