"""How a result leaves: ``GET /response/{id}`` for clients that poll, ``GET /objects/…`` for those that download."""

from __future__ import annotations

import asyncio
import base64
import re

from fastapi import APIRouter, Request
from fastapi.responses import Response as HttpResponse
from fastapi.responses import StreamingResponse

from edif_backend.errors import JobUnknown, KeyRefused
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.jobs import Jobs
from edif_protocol.wire import Response, State

routes = APIRouter()

#: One range; several at once are answered with the whole, as RFC 9110 allows.
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@routes.get("/response/{id}")
async def response(request: Request, id: str) -> Response:
    """The job as it stands now, with a new link to its result; 404 only when there is no such job of yours."""
    parts = parts_of(request)
    return await parts.response(await parts.job(id, await parts.user(request)), request)


@routes.head("/objects/{kind}/{name}", response_class=HttpResponse, include_in_schema=False)
@routes.get("/objects/{kind}/{name}", response_class=HttpResponse)
async def download(request: Request, kind: str, name: str, ends: int, signature: str) -> HttpResponse:
    """A result, whole or from where a download broke off, to whoever holds its signed link."""
    parts = parts_of(request)
    full_name = f"{kind}/{name}"
    if not parts.links.valid(full_name, ends, signature):
        raise KeyRefused("This link has ended or was changed; ask for the job again to get a new one.")
    sha256, size = await _found(parts, full_name)
    headers = _headers(sha256, full_name)
    if request.method == "HEAD":
        return HttpResponse(headers={**headers, "Content-Length": str(size)})
    if headers["ETag"] in request.headers.get("If-None-Match", ""):
        return HttpResponse(status_code=304, headers=headers)
    wanted = request.headers.get("Range", "")
    if request.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
        wanted = ""  # it was another object that the client has a part of
    span = _span(wanted, size)
    if span is None:
        return HttpResponse(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    start, end = span
    partial = wanted and (start, end) != (0, size)
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    headers["Content-Length"] = str(end - start)
    try:
        pieces = await asyncio.to_thread(parts.objects.read_range, full_name, start, end - start)
    except FileNotFoundError:
        raise _gone() from None
    return StreamingResponse(pieces, status_code=206 if partial else 200, headers=headers)


async def _found(parts: Parts, name: str) -> tuple[str, int]:
    """Checksum, if it is known, and size of a result or of a kept value."""
    kind, _, id = name.partition("/")
    value = await parts.ask(lambda jobs: jobs.kept.one(id)) if kind == "kept" else None
    job = await parts.ask(Jobs.job, id.partition("-")[0]) if value is None else None
    if value is None and (job is None or job.state is not State.COMPLETED or job.result != name):
        raise _gone()
    sha256 = value.sha256 if value else str(job.meta.get("sha256", "")) if job else ""
    try:
        found = await asyncio.to_thread(parts.objects.stat, name)
    except FileNotFoundError:
        raise _gone() from None
    return sha256, found.bytes


def _gone() -> JobUnknown:
    return JobUnknown("This result is not kept any more; run the trace again.")


def _headers(sha256: str, name: str) -> dict[str, str]:
    headers = {
        "ETag": f'"{sha256 or name}"',  # a result never changes under its name
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
        "Cache-Control": "private, no-transform",
    }
    if sha256:
        headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"  # RFC 9530
    return headers


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """First byte and end of what a ``Range`` header asks for; all for none or a strange one, None for nothing."""
    found = _RANGE.fullmatch(wanted.replace(" ", ""))
    if found is None or found[1] == found[2] == "":
        return 0, size
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < int(found[1]):
            return 0, size
    return (start, end) if start < end else None
