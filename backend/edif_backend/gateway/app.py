"""Puts the gateway together: parts, routes, errors, limits.  The composition is this one list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from edif_backend.clock import now
from edif_backend.errors import FabricError, LimitReached, NotServing, RequestTooSlow
from edif_backend.gateway import (
    downloads,
    kept_values,
    operator_page,
    own_jobs,
    requests,
    service,
    subscribe,
    usage,
    web_page,
)
from edif_backend.gateway.asking import Asking
from edif_backend.gateway.bodies import BodyLimit
from edif_backend.gateway.identity import Identity
from edif_backend.gateway.mirror import mirror_routes
from edif_backend.gateway.parts import Parts
from edif_backend.gateway.sessions import Sessions
from edif_backend.gateway.signing_in import SigningIn
from edif_backend.jobs import Jobs, Policy, open_jobs
from edif_backend.models.live import LiveCatalogue
from edif_backend.objects import open_objects
from edif_backend.objects.links import Links
from edif_backend.settings import BackendSettings
from edif_protocol.installation import MIRROR_PATH, Installation, PublicAddressSettings
from edif_protocol.wire import KEYS_PATH

_FORM_OVERHEAD_BYTES = 64 * 1024  # multipart borders and the envelope, on top of the payload

_AWAY_S = 5  # when to try again what the fabric could not take


def create_app(installation: Installation, settings: BackendSettings) -> FastAPI:
    """The gateway of one installation, ready for uvicorn."""
    catalogue = LiveCatalogue(installation.models_file)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bells = installation.run_dir / "bells"
        jobs = open_jobs(installation.jobs_database, bells, url=settings.database_url)
        ask = Asking(jobs)
        link_key = installation.secret("link-key")
        sessions = Sessions(ask, link_key, await ask(Jobs.last_event))
        async with httpx.AsyncClient(timeout=httpx.Timeout(5.0)) as client:
            with ask.bell("gateway") as bell:
                identity = _identity(client, installation, settings)
                app.state.parts = Parts(
                    installation=installation,
                    settings=settings,
                    catalogue=catalogue,
                    ask=ask,
                    policy=Policy(installation.config_file, jobs),
                    objects=open_objects(installation.objects_dir, settings),
                    links=Links(link_key, settings.result_link_s, now),
                    identity=identity,
                    sessions=sessions,
                    signing_in=SigningIn(client, installation.url("hub"), installation.secret("page-token"), identity),
                    address=PublicAddressSettings(),
                )
                following = asyncio.create_task(sessions.follow(bell))
                yield
                following.cancel()
        ask.close()

    app = FastAPI(title="eDIF gateway", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(service.routes)
    app.include_router(requests.routes)
    app.include_router(subscribe.routes)
    app.include_router(downloads.routes)
    app.include_router(own_jobs.routes)
    app.include_router(usage.routes)
    app.include_router(kept_values.routes)
    app.include_router(operator_page.routes)  # before the page's files, whose address any name fits
    app.include_router(web_page.routes)
    app.include_router(mirror_routes(catalogue, installation, settings.allow_hub_redirect), prefix=MIRROR_PATH)
    app.add_exception_handler(FabricError, _say)
    app.add_exception_handler(RequestValidationError, _say_invalid)
    app.add_middleware(BodyLimit, limit_bytes=settings.max_payload_bytes + _FORM_OVERHEAD_BYTES)
    return app


def _identity(client: httpx.AsyncClient, installation: Installation, settings: BackendSettings) -> Identity:
    return Identity(
        client,
        installation.url("hub"),
        answer_s=settings.hub_answer_s,
        refusal_s=settings.hub_refusal_s,
        outage_s=settings.hub_outage_s,
        mend=_key_mend(installation),
        clock=now,
    )


def _key_mend(installation: Installation) -> str:
    site = PublicAddressSettings().browsers_reach(installation)
    return (
        f"Get one at {site}{KEYS_PATH} or with `./edif key new`, and set it as NDIF_API_KEY; "
        "in a notebook of the hub restart the server to get a fresh one."
    )


async def _say(request: Request, error: Exception) -> JSONResponse:
    """Every refusal as ``{"detail": sentence, "code": code}``; nnsight shows ``detail`` to its user."""
    assert isinstance(error, FabricError)
    headers = None
    if isinstance(error, LimitReached | NotServing):
        headers = {"Retry-After": str(error.retry_after_s if isinstance(error, LimitReached) else _AWAY_S)}
    elif isinstance(error, RequestTooSlow):
        headers = {"Connection": "close"}  # the rest of it is not waited for
    return JSONResponse({"detail": str(error), "code": error.code}, error.http_status, headers)


async def _say_invalid(request: Request, error: Exception) -> JSONResponse:
    """The same for a question that is not one, such as a number out of bounds: what is wrong with it, and where."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    sentence = f"The request is not valid: {first['loc'][-1]}: {first['msg']}."
    return JSONResponse({"detail": sentence, "code": "request-invalid"}, status_code=422)
