"""``/kept``: what a user keeps on the server between jobs (``edif.keep``): listed, fetched, removed."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from edif_backend.errors import KeptUnknown
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.jobs import KeptValue

routes = APIRouter(prefix="/kept")


@routes.get("")
async def listing(request: Request) -> dict[str, Any]:
    """All values of the asking user, by name."""
    parts = parts_of(request)
    user = await parts.user(request)
    return {"kept": [_record(value, parts) for value in await parts.ask(lambda jobs: jobs.kept.of(user.name))]}


@routes.get("/{name}")
async def one(request: Request, name: str) -> dict[str, Any]:
    """One value, with a link to its bytes in ``data``."""
    parts = parts_of(request)
    user = await parts.user(request)
    value = await parts.ask(lambda jobs: jobs.kept.use(user.name, name))
    if value is None:
        raise _unknown(name)
    return {**_record(value, parts), "data": parts.result_url(value.object, request)}


@routes.delete("/{name}")
async def remove(request: Request, name: str) -> dict[str, Any]:
    """Keep a value no longer."""
    parts = parts_of(request)
    user = await parts.user(request)
    if not await parts.ask(lambda jobs: jobs.kept.remove(user.name, name)):
        raise _unknown(name)
    return {"removed": name}


def _record(value: KeptValue, parts: Parts) -> dict[str, Any]:
    now = parts.ask.now()
    return {
        "name": value.name,
        "bytes": value.bytes,
        "model": value.model,
        "job": value.job,
        "age_s": now - value.kept_at,
        "left_s": value.used_at + parts.settings.kept_keep_s - now,
    }


def _unknown(name: str) -> KeptUnknown:
    return KeptUnknown(f"You keep nothing as {name[:80]!r}; edif.kept() lists what there is.")
