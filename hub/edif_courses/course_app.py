"""Puts the course service together: parts, routes, errors.  The composition is this one list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from fastapi.responses import Response as HttpResponse
from starlette.exceptions import HTTPException

from edif_backend.clock import now
from edif_backend.errors import FabricError
from edif_backend.gateway.bodies import BodyLimit
from edif_backend.gateway.identity import Identity
from edif_backend.gateway.signing_in import SigningIn
from edif_backend.models.live import LiveCatalogue
from edif_courses import assignment_pages, course_pages, fabric_pages, lti_pages
from edif_courses.course_frame import SITE, STYLE, Parts, parts_of, refusal
from edif_courses.desk import Desk, open_desk
from edif_courses.errors import Nothing
from edif_courses.hub_side import HubSide
from edif_courses.lti_tool import lti_key, open_launches
from edif_courses.names_roles import NamesRoles
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation, PublicAddressSettings
from edif_protocol.wire import COURSES_PATH

#: How often the hub is asked to follow the register even if nothing rang: time begins and ends things too.
_FOLLOW_S = 30.0
_FORM_BYTES = 1024 * 1024


def create_app(installation: Installation, settings: CourseSettings) -> FastAPI:
    """The course service of one installation, ready for uvicorn."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        desk, hub, platforms = open_desk(installation, settings), HubSide(installation), httpx.Client(timeout=10)
        async with httpx.AsyncClient(timeout=httpx.Timeout(5.0)) as client:
            identity = Identity(
                client,
                installation.url("hub"),
                answer_s=10.0,
                refusal_s=5.0,
                outage_s=600.0,
                mend="Open the page again.",
                clock=now,
            )
            secret = installation.secret("courses-token")
            signing_in = SigningIn(client, installation.url("hub"), secret, identity, SITE)
            app.state.parts = _parts(installation, desk, signing_in, hub, platforms)
            following = asyncio.create_task(_follow(hub))
            yield
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
        for opened in (platforms, hub, desk):
            opened.close()

    app = FastAPI(title="eDIF courses", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_api_route("/ping", _ping)
    app.add_api_route(f"{COURSES_PATH}page.css", _style)
    app.add_api_route(f"{COURSES_PATH}oauth_callback", _callback)
    for pages in (lti_pages, course_pages, assignment_pages, fabric_pages):
        app.include_router(pages.routes, prefix=COURSES_PATH.rstrip("/"))
    app.add_exception_handler(HTTPException, _nothing)
    app.add_middleware(BodyLimit, limit_bytes=settings.submission_bytes + _FORM_BYTES)
    return app


def _parts(
    installation: Installation, desk: Desk, signing_in: SigningIn, hub: HubSide, platforms: httpx.Client
) -> Parts:
    address = PublicAddressSettings()
    public = address.browsers_reach(installation)
    key = lti_key(installation)
    return Parts(
        desk=desk,
        signing_in=signing_in,
        hub=hub,
        catalogue=LiveCatalogue(installation.models_file),
        lti=open_launches(desk, public, platforms),
        names_roles=NamesRoles(desk.register, desk.enrolment, desk.trail, platforms, key),
        lti_key=key,
        lti_secret=installation.secret("courses-token"),
        public_url=public,
        user_hosts=address.user_hosts,
    )


async def _follow(hub: HubSide) -> None:
    while True:
        await run_in_threadpool(hub.ring)
        await asyncio.sleep(_FOLLOW_S)


async def _ping() -> str:
    return "pong"


async def _style() -> HttpResponse:
    headers = {"Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff"}
    return FileResponse(STYLE, media_type="text/css", headers=headers)


async def _callback(request: Request, code: str = "", state: str = "") -> HttpResponse:
    """Back from the hub's login."""
    try:
        return await parts_of(request).signing_in.finish(request, code, state)
    except FabricError as error:
        return refusal(request, error, None)


async def _nothing(request: Request, error: Exception) -> HttpResponse:
    """An address without a page, or a form that is none: in words as well."""
    status = error.status_code if isinstance(error, HTTPException) else 404
    said = "There is no such page." if status in {404, 405} else "What was sent cannot be read as a form."
    answer = refusal(request, Nothing(said), None)
    answer.status_code = status
    return answer
