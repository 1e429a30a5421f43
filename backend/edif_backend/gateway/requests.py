"""``POST /request``: the way in.  Checks in the order of cost, then stores the payload, then the job.

Nothing is queued before every check has passed, and a job that was accepted is in the table before the answer leaves.
A client that never heard the answer sends the request again under the same name (``edif-request``): it is one job.
"""

from __future__ import annotations

import hashlib
import re
import uuid

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from edif_backend.errors import (
    LimitReached,
    ModelNotOpen,
    ModelUnknown,
    NotServing,
    PayloadRefused,
    PayloadTooLarge,
    SessionUnknown,
)
from edif_backend.gateway.identity import User
from edif_backend.gateway.parts import Parts, parts_of
from edif_backend.gateway.payloads import check_payload, check_version
from edif_backend.jobs import Job, Jobs, Submission
from edif_backend.models.catalogue import ModelEntry
from edif_backend.settings import Limits
from edif_protocol.wire import NNSIGHT_HEADER, REQUEST_HEADER, Envelope, ModelKey, Response, State

routes = APIRouter()

#: In the envelope's ``env``: how many seconds the job may run, where that is not the user's default.
TIME_LIMIT = "time_limit_s"

#: A request up to this size is not judged before it is read; what the form may add to the payload.
_SMALL_BYTES, _ENVELOPE_BYTES = 256 << 10, 2 << 20

_NAME = re.compile(r"[A-Za-z0-9_-]{16,64}")


@routes.post("/request")
async def submit(request: Request) -> Response:
    """Take a trace: multipart form with the envelope ``data`` (JSON) and the payload ``blob``."""
    parts = parts_of(request)
    check_version(request.headers.get(NNSIGHT_HEADER))
    user = await parts.user(request)
    name = request.headers.get(REQUEST_HEADER)
    await _judge_early(request, parts, user, name)
    envelope, payload = await _read_form(request, parts.settings.max_payload_bytes)
    entry = _model(parts, envelope, user)
    _check_session(parts, envelope, user)
    job = await parts.ask.at_length(_accept, parts, user, entry, envelope, payload, name)
    return Response(id=job.id, status=State.RECEIVED, description="The job is stored and waits for a free slot.")


async def _judge_early(request: Request, parts: Parts, user: User, name: str | None) -> None:
    """Refuse a large request of a user who is over a limit before it is read.

    What is declared is judged; without a declared length, that there is one more job.  A small request is here already,
    and is judged by the thread that would store it.
    """
    declared = request.headers.get("content-length", "")
    payload_bytes = max(0, int(declared) - _ENVELOPE_BYTES) if declared.isdecimal() else 0
    if declared.isdecimal() and int(declared) <= _SMALL_BYTES:
        return
    limits = await parts.limits(user)
    try:
        await parts.ask(Jobs.may_submit, user.name, payload_bytes, limits, _named_id(user, name))
    except LimitReached:
        # The rest is let pass unread: a client that is hung up on while it sends would not hear why.
        async for _ in request.stream():
            pass
        raise


def _accept(
    jobs: Jobs, parts: Parts, user: User, entry: ModelEntry, envelope: Envelope, payload: bytes, name: str | None
) -> Job:
    """Check and store the payload, then the job; all in one thread, for a change of threads costs as much as either."""
    check_payload(payload, envelope.compress, parts.settings.max_unpacked_bytes)
    limits = parts.policy.limits(user.name, user.groups)
    named = _named_id(user, name)
    jobs.may_submit(user.name, len(payload), limits, named)
    submission = Submission(
        id=named or uuid.uuid4().hex,
        user=user.name,
        session_id=envelope.session_id,
        model=entry.id,
        model_key=envelope.model_key,
        compress=envelope.compress,
        env={name: value for name, value in envelope.env.items() if name != TIME_LIMIT},
        payload_bytes=len(payload),
        time_limit_s=_time_limit_s(envelope, limits),
        groups=tuple(user.groups),
    )
    try:
        parts.objects.write(f"payloads/{submission.id}", payload)
    except OSError as error:
        raise NotServing(
            f"The payload cannot be stored ({error.strerror}); nothing was accepted. Tell the operator, then try again."
        ) from error
    try:
        return jobs.submit(submission, limits)
    except LimitReached:
        parts.objects.delete(f"payloads/{submission.id}")
        raise


def _time_limit_s(envelope: Envelope, limits: Limits) -> float:
    """The job's own time limit: the one that it asks for, or its user's."""
    asked = envelope.env.get(TIME_LIMIT)
    if asked is None:
        return limits.time_limit_s
    if isinstance(asked, bool) or not isinstance(asked, int | float) or not 0 < asked <= limits.max_time_limit_s:
        raise PayloadRefused(
            f"{TIME_LIMIT} in the request's env must be a number of seconds, more than 0 and at most "
            f"{limits.max_time_limit_s:g}, which is the longest that a job of yours may run."
        )
    return float(asked)


def _named_id(user: User, name: str | None) -> str | None:
    """For a request that its client has named, the id that follows from owner and name."""
    if name is None:
        return None
    if not _NAME.fullmatch(name):
        raise PayloadRefused(f"The header {REQUEST_HEADER} must be 16 to 64 letters, digits, - or _, new for each job.")
    return hashlib.sha256(f"{user.name}\n{name}".encode()).hexdigest()[:32]


async def _read_form(request: Request, limit_bytes: int) -> tuple[Envelope, bytes]:
    try:
        form: FormData = await request.form(max_files=1, max_fields=1)
    except (MultiPartException, HTTPException) as error:
        raise PayloadRefused("The request is not the multipart form (data, blob) that nnsight sends.") from error
    except ClientDisconnect as error:
        raise PayloadRefused("The request was broken off by its client.") from error
    try:
        data, blob = form.get("data"), form.get("blob")
        if not isinstance(data, str) or not isinstance(blob, UploadFile):
            raise PayloadRefused("The form lacks its field 'data' (JSON) or its file 'blob'; send traces with nnsight.")
        try:
            envelope = Envelope.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "data"
            raise PayloadRefused(f"The request's envelope is not valid: {where}: {first['msg']}.") from error
        payload = await blob.read()
    finally:
        await form.close()
    if len(payload) > limit_bytes:
        raise PayloadTooLarge(f"The payload has {len(payload)} bytes; at most {limit_bytes} are taken.")
    return envelope, payload


def _model(parts: Parts, envelope: Envelope, user: User) -> ModelEntry:
    try:
        key = ModelKey.parse(envelope.model_key)
    except ValueError as error:
        raise PayloadRefused(str(error)) from error
    entry = parts.catalogue.find(key.repo_id, key.revision)
    if not entry.open_to(user.groups):
        raise ModelNotOpen(
            f"{entry.id} may be used by members of {', '.join(entry.groups)} only, and {user.name} is in none of these "
            "groups: ask whoever runs this workbench."
        )
    adapter = envelope.env.get("peft")
    if adapter is not None and adapter not in entry.adapters:
        known = ", ".join(entry.adapters) or "none"
        raise ModelUnknown(f"This adapter is not served with {entry.id}; adapters of it served here: {known}.")
    return entry


def _check_session(parts: Parts, envelope: Envelope, user: User) -> None:
    if not envelope.session_id or parts.sessions.belongs(envelope.session_id, user.name):
        return
    raise SessionUnknown(
        "The websocket session of this request is none of this installation, or it is not yours; "
        "run the cell again (nnsight opens a new one for every trace)."
    )
