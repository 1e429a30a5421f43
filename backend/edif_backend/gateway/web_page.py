"""The page under the hub, ``/services/edif/``: your jobs, the queue, the models, what you may use.

Rendered here (Jinja2) and readable without a script; with one, a websocket keeps it up to date.  The hub's proxy sends
the browser here, :mod:`~edif_backend.gateway.signing_in` knows who it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request, WebSocket
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.responses import Response as HttpResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import URL
from starlette.websockets import WebSocketDisconnect

from edif_backend.errors import FabricError, JobUnknown, KeyRefused, NotServing
from edif_backend.gateway.page_content import job_content, page_content, unaged
from edif_backend.gateway.parts import parts_of
from edif_backend.gateway.signing_in import Visitor
from edif_protocol import wording
from edif_protocol.wire import COURSES_PATH, KEYS_PATH, PAGE_PATH, PEOPLE_PATH

routes = APIRouter(prefix=PAGE_PATH.rstrip("/"), include_in_schema=False, default_response_class=HTMLResponse)

FOLDER = Path(__file__).parent / "page"
_FILES = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
#: Ages are counted on by the script; the page itself is told again at least this often, and at most twice a second.
_AGAIN_S, _PAUSE_S = 15.0, 0.5


def headers(forms_lead_to: str = "") -> dict[str, str]:
    """Headers of every page of ours: nothing is loaded but our own style and script.

    A form leads to a page of this host, or to ``forms_lead_to``.
    """
    return {
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self';"
        f" img-src 'self'; form-action 'self' {forms_lead_to}; base-uri 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


Before = Annotated[str | None, Query(max_length=64)]
Word = Annotated[str, Form(max_length=128)]


@cache
def _templates() -> Environment:
    made = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters |= {name: getattr(wording, name) for name in ("model_state", "size", "span", "state", "tone")}
    paths = {"root": PAGE_PATH, "keys_path": KEYS_PATH, "people_path": PEOPLE_PATH, "courses_path": COURSES_PATH}
    made.globals |= {**paths, "version": _version()}
    return made


def _version() -> str:
    content = b"".join((FOLDER / name).read_bytes() for name in sorted(_FILES))
    return hashlib.sha256(content).hexdigest()[:12]


def page(template: str, status: int = 200, **content: Any) -> HTMLResponse:
    """A page of ours, with the policy that lets in nothing but its own style and script."""
    return HTMLResponse(_templates().get_template(template).render(content), status, headers=headers())


async def shown(request: Request, show: Callable[[Visitor], Awaitable[HttpResponse]]) -> HttpResponse:
    """The page for whoever is logged in; others log in first.  A refusal is a page too."""
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        return HttpResponse("This page is for people.", 403)  # not for scripts of other pages on this host
    try:
        visitor = await parts_of(request).signing_in.visitor(request)
        if visitor is None:
            return parts_of(request).signing_in.begin(request)
        return await show(visitor)
    except FabricError as error:
        return page("refusal.html", error.http_status, said=str(error), missing=isinstance(error, JobUnknown))


@routes.get("/")
async def index(request: Request, before: Before = None) -> HttpResponse:
    """Jobs, models, queue, usage."""
    parts = parts_of(request)

    async def show(visitor: Visitor) -> HttpResponse:
        if before is not None:
            await parts.job(before, visitor.user)
        content = await page_content(parts, visitor.user, before)
        return page("jobs.html", visitor=visitor, **content)

    return await shown(request, show)


@routes.get("/jobs/{id}")
async def one(request: Request, id: str) -> HttpResponse:
    """One job: what became of it, what it printed, how to get at its result."""
    parts = parts_of(request)

    async def show(visitor: Visitor) -> HttpResponse:
        content = await job_content(parts, await parts.job(id, visitor.user))
        return page("job.html", visitor=visitor, **content)

    return await shown(request, show)


@routes.post("/cancel")
async def cancel(request: Request, id: Word = "", proof: Word = "") -> HttpResponse:
    """Cancel a job; the form comes from a page of ours, as its proof shows."""
    parts = parts_of(request)

    async def end(visitor: Visitor) -> HttpResponse:
        check_proof(visitor, proof, "nothing was cancelled")
        await parts.cancel(id, visitor.user, "Cancelled by you from the web page.")
        return RedirectResponse(PAGE_PATH, 303)

    return await shown(request, end)


def check_proof(visitor: Visitor, proof: str, consequence: str) -> None:
    """That a form comes from a page of ours.

    Raises:
        KeyRefused: it does not, or the page is of another login.
    """
    if not hmac.compare_digest(proof.encode(), visitor.proof.encode()):
        raise KeyRefused(f"This form is out of date, so {consequence}. Go back, reload the page, try again.")


@routes.get("/oauth_callback")
async def callback(request: Request, code: str = "", state: str = "") -> HttpResponse:
    """Back from the hub's login."""
    try:
        return await parts_of(request).signing_in.finish(request, code, state)
    except FabricError as error:
        return page("refusal.html", error.http_status, said=str(error), missing=False)


@routes.get("/{name}.{kind}")
async def file(name: str, kind: str) -> HttpResponse:
    """Style and script; their address changes with them."""
    media_type = _FILES.get(f"{name}.{kind}")
    if media_type is None:
        return page("refusal.html", 404, said="There is no such page.", missing=True)
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    return HttpResponse((FOLDER / f"{name}.{kind}").read_bytes(), media_type=media_type, headers=headers)


@routes.websocket("/live")
async def live(socket: WebSocket) -> None:
    """The changing part of the page, whenever it has changed."""
    parts = parts_of(socket)
    try:
        visitor = await parts.signing_in.visitor(socket)
    except NotServing:
        visitor = None
    if visitor is None or URL(socket.headers.get("origin", "")).netloc != socket.headers.get("host"):
        await socket.close(4401)
        return
    await socket.accept()
    telling = asyncio.create_task(_tell(socket, visitor))
    try:
        while True:  # the browser says nothing; this notices that it has gone
            await socket.receive_text()
    except (WebSocketDisconnect, KeyError):
        pass
    finally:
        telling.cancel()


async def _tell(socket: WebSocket, visitor: Visitor) -> None:
    parts, template = parts_of(socket), _templates().get_template("live.html")
    told, told_at = "", 0.0
    while True:
        newest = parts.sessions.newest
        content = await page_content(parts, visitor.user, None)
        if unaged(content) != told or parts.ask.now() - told_at > _AGAIN_S:
            if await _logged_out(socket):
                await socket.close(4401)
                return
            await socket.send_text(template.render(content))
            told, told_at = unaged(content), parts.ask.now()
        await asyncio.sleep(_PAUSE_S)
        await parts.sessions.news(newest, _AGAIN_S)


async def _logged_out(socket: WebSocket) -> bool:
    try:
        return await parts_of(socket).signing_in.visitor(socket) is None
    except NotServing:
        return False  # asked again before anything else is told
