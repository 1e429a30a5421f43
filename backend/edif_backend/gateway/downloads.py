"""How a result leaves: ``GET /response/{id}`` for clients that poll, ``GET /objects/…`` for those that download."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse

from edif_backend.errors import JobUnknown, KeyRefused
from edif_backend.gateway.parts import parts_of
from edif_protocol.wire import Response

routes = APIRouter()


@routes.get("/response/{id}")
async def response(request: Request, id: str) -> Response:
    """The job as it stands now; 404 only when there is no such job of yours."""
    parts = parts_of(request)
    user = await parts.user(request)
    job = parts.jobs.job(id)
    if job is None or job.user != user.name:
        raise JobUnknown("There is no such job of yours; job ids are shown when a job is sent.")
    return parts.response(job)


@routes.get("/objects/{kind}/{name}", response_class=FileResponse)
async def download(request: Request, kind: str, name: str, ends: int, signature: str) -> FileResponse:
    """A result, to whoever holds its signed link (HTTP Range and ETag as in RFC 9110)."""
    parts = parts_of(request)
    if not parts.links.valid(f"{kind}/{name}", ends, signature):
        raise KeyRefused("This link has ended or was changed; ask for the job again to get a new one.")
    path = parts.objects.path(f"{kind}/{name}")
    if not path.is_file():
        raise JobUnknown("This result is not kept any more; run the trace again.")
    return FileResponse(path, media_type="application/octet-stream")
