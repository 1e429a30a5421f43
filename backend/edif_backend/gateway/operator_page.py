"""``/services/edif/operator``: everybody's jobs, models, limits, reservations, and who did what.

For the hub's admins alone, behind the same login as the page of one's own jobs; works without a script.  People,
servers and keys are the hub's, on a page there.  All of it is in the ``edif`` command as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from fastapi.responses import Response as HttpResponse
from pydantic import ValidationError

from edif_backend.errors import CatalogueInvalid, JobUnknown, LimitsNotUnderstood, OperatorsOnly, Refused
from edif_backend.gateway.operator_content import operator_content
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.gateway.signing_in import Visitor
from edif_backend.gateway.web_page import check_proof, page, shown
from edif_backend.jobs import Jobs
from edif_backend.jobs.bell import Bells
from edif_backend.jobs.policy import parse_limits
from edif_backend.models import edits
from edif_backend.models.orders import Order, Orders
from edif_protocol.audit_log import AuditLog
from edif_protocol.wire import OPERATOR_PATH

routes = APIRouter(prefix=OPERATOR_PATH, include_in_schema=False, default_response_class=HTMLResponse)

Word = Annotated[str, Form(max_length=256)]
Filter = Annotated[str, Query(max_length=128)]
Shown = Callable[[Visitor], Awaitable[HttpResponse]]


def operators_only(show: Shown) -> Shown:
    """``show`` for admins; others are told whose page it is."""

    async def guarded(visitor: Visitor) -> HttpResponse:
        if not visitor.user.admin:
            raise OperatorsOnly("This page is for those who run this workbench. Your own jobs are on the page “Jobs”.")
        return await show(visitor)

    return guarded


@routes.get("")
async def overview(request: Request, user: Filter = "", act: Filter = "", done: Filter = "") -> HttpResponse:
    """All of it, of one user's jobs and acts if one is named."""
    parts = parts_of(request)

    async def show(visitor: Visitor) -> HttpResponse:
        content = await operator_content(parts, user.strip(), act.strip())
        return page("operator.html", visitor=visitor, done=_DONE.get(done, ""), **content)

    return await shown(request, operators_only(show))


@routes.get("/audit.jsonl")
async def audit(request: Request) -> HttpResponse:
    """Who did what, all of it, as JSON lines."""
    log = AuditLog(parts_of(request).installation.audit_dir)

    def lines() -> Iterator[str]:
        for line in log.lines():
            yield f"{line}\n"

    async def show(visitor: Visitor) -> HttpResponse:
        headers = {"Content-Disposition": 'attachment; filename="audit.jsonl"', "Cache-Control": "no-store"}
        return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)

    return await shown(request, operators_only(show))


@routes.post("")
async def act(request: Request, act: Word = "", on: Word = "", said: Word = "", proof: Word = "") -> HttpResponse:
    """Do one thing; the form comes from a page of ours, as its proof shows."""
    parts = parts_of(request)

    async def show(visitor: Visitor) -> HttpResponse:
        check_proof(visitor, proof, "nothing was done")
        if act not in _ACTS:
            raise Refused("The page does not know this act; reload it.")
        more = await _ACTS[act](parts, on, said)
        log = AuditLog(parts.installation.audit_dir)
        await asyncio.to_thread(log.note, visitor.user.name, act, on, via="page", **more)
        return RedirectResponse(f"{OPERATOR_PATH}?done={act}", 303)

    return await shown(request, operators_only(show))


async def _cancel(parts: Parts, on: str, said: str) -> dict[str, str]:
    job = await parts.ask(Jobs.cancel, on, "Cancelled by the operator; ask them before you send it again.")
    if job is None:
        raise JobUnknown(f"There is no job {on[:64]!r}.")
    return {"user": job.user, "state": job.state.value}


async def _order(parts: Parts, order: Order) -> dict[str, str]:
    await asyncio.to_thread(Orders(parts.installation.orders_dir).place, order)
    _ring(parts)
    return {}


async def _deploy(parts: Parts, on: str, said: str) -> dict[str, str]:
    return await _order(parts, Order("deploy", parts.catalogue.entry(on).id))


async def _evict(parts: Parts, on: str, said: str) -> dict[str, str]:
    entry = parts.catalogue.entry(on)
    if entry.pinned:
        raise Refused(f"{entry.id} is pinned and stays loaded: unpin it first.")
    return await _order(parts, Order("evict", entry.id))


async def _pinned(parts: Parts, on: str, pinned: bool) -> dict[str, str]:
    try:
        await asyncio.to_thread(edits.set_pinned, parts.installation.models_file, parts.catalogue.entry(on).id, pinned)
    except CatalogueInvalid as error:
        raise Refused(str(error)) from error
    _ring(parts)
    return {}


async def _pin(parts: Parts, on: str, said: str) -> dict[str, str]:
    return await _pinned(parts, on, True)


async def _unpin(parts: Parts, on: str, said: str) -> dict[str, str]:
    return await _pinned(parts, on, False)


def _ring(parts: Parts) -> None:
    """Have the dispatcher look at once; with PostgreSQL it looks within seconds anyway."""
    with closing(Bells(parts.installation.run_dir / "bells")) as bells:
        bells.ring("dispatcher")


async def _set_limits(parts: Parts, on: str, said: str) -> dict[str, str]:
    kind, _, name = on.partition(":")
    if kind not in {"group", "user"} or not name.strip():
        raise LimitsNotUnderstood("Say for whom: the name of a group or of a user.")
    before = (await parts.ask(Jobs.limits_set)).get(on, {})
    try:
        await parts.ask(Jobs.set_limits, on, {**before, **parse_limits(said.split())})
    except ValidationError as error:
        found = error.errors()[0]
        raise LimitsNotUnderstood(f"{found['loc'][0]}: {found['msg']}.") from error
    return {"said": said}


async def _clear_limits(parts: Parts, on: str, said: str) -> dict[str, str]:
    await parts.ask(Jobs.set_limits, on, {})
    return {}


async def _unreserve(parts: Parts, on: str, said: str) -> dict[str, str]:
    if not await parts.ask(Jobs.unreserve, on):
        raise Refused("That reservation is over.")
    return {}


_ACTS: dict[str, Callable[[Parts, str, str], Awaitable[dict[str, Any]]]] = {
    "job.cancel": _cancel,
    "model.deploy": _deploy,
    "model.evict": _evict,
    "model.pin": _pin,
    "model.unpin": _unpin,
    "limits.set": _set_limits,
    "limits.clear": _clear_limits,
    "reservation.cancel": _unreserve,
}

_DONE = {
    "job.cancel": "The job is cancelled; its owner reads that you did it.",
    "model.deploy": "The model is loaded now; its state is below.",
    "model.evict": "The model goes as soon as its running jobs have ended.",
    "model.pin": "The model is pinned: loaded now, at every start, and never evicted.",
    "model.unpin": "The model is not pinned any more: it stays until its memory is needed.",
    "limits.set": "Set; it counts within seconds.",
    "limits.clear": "Taken back; edif.toml counts again.",
    "reservation.cancel": "The reservation is gone.",
}
