"""How every page of the courses is shown, and every form taken: who it is, what went wrong, what is said afterwards.

Used by the modules with routes.  Pages are rendered here and read without a script; they have the gateway's style.
"""

from __future__ import annotations

import binascii
import hmac
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, cast

import structlog
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.responses import Response as HttpResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.datastructures import FormData, UploadFile

from edif_backend.errors import FabricError, KeyRefused, NotServing
from edif_backend.gateway import web_page
from edif_backend.gateway.signing_in import SigningIn, Site, Visitor
from edif_backend.models.live import LiveCatalogue
from edif_courses.desk import Desk
from edif_courses.errors import TooLarge, Unusable
from edif_courses.hub_side import HubSide
from edif_courses.lti_launch import LtiLaunch
from edif_courses.names_roles import NamesRoles
from edif_courses.records import Person
from edif_protocol import wording
from edif_protocol.wire import COURSES_CLIENT, COURSES_PATH, KEYS_PATH, PAGE_PATH

log = structlog.get_logger(__name__)

SITE = Site(COURSES_CLIENT, COURSES_PATH, "edif-courses")
STYLE = web_page.FOLDER / "page.css"
_SAID = "edif-courses-said"
_FIELDS, _FILES = 60, 210


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one course service; made once, found by :func:`parts_of`."""

    desk: Desk
    signing_in: SigningIn
    hub: HubSide
    catalogue: LiveCatalogue
    lti: LtiLaunch
    names_roles: NamesRoles
    lti_key: Callable[[], str]  #: this tool's private key as PEM
    lti_secret: str  #: seals the cookies of launches
    public_url: str  #: under which browsers reach this workbench
    user_hosts: str  #: where user servers are, if not on its host


def parts_of(request: Request) -> Parts:
    """The parts of the service that answers this request."""
    return cast(Parts, request.app.state.parts)


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it was sent, its files read."""

    fields: dict[str, str]
    files: dict[str, list[tuple[str, bytes]]]

    def text(self, name: str, most: int = 4000) -> str:
        """The field ``name``, without what surrounds it; empty if it was not sent."""
        text = self.fields.get(name, "").strip()
        if len(text) > most:
            raise Unusable(f"What was written into {name!r} is too long.")
        return text

    def moment(self, name: str) -> float | None:
        """A day or a minute in UTC as seconds since the epoch, None if the field is empty."""
        text = self.text(name, 40)
        if not text:
            return None
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            raise Unusable(f"{text!r} is no date: write it as 2026-10-12 or 2026-10-12T18:00.") from None
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()

    def number(self, name: str) -> float | None:
        """A number, None if the field is empty."""
        text = self.text(name, 40).replace(",", ".")
        if not text:
            return None
        try:
            found = float(text)
        except ValueError:
            raise Unusable(f"{text!r} is no number.") from None
        if not -1e12 < found < 1e12:
            raise Unusable(f"{text!r} is too large a number.")
        return found

    def uploads(self, name: str) -> dict[str, bytes]:
        """The files sent as ``name`` by their names; two of one name are refused."""
        found: dict[str, bytes] = {}
        for file, content in self.files.get(name, []):
            if file in found:
                raise Unusable(f"Two files are called {file[:80]!r}: rename one.")
            found[file] = content
        return found


def templates() -> Environment:
    """The templates, compiled once a process."""
    return _templates()


@cache
def _templates() -> Environment:
    folder = Path(__file__).parent / "pages"
    made = Environment(loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    made.filters |= {"size": wording.size, "span": wording.span, "moment": moment, "field": _field}
    made.globals |= {"root": COURSES_PATH, "jobs_path": PAGE_PATH, "keys_path": KEYS_PATH}
    return made


def moment(at: float | None) -> str:
    """``2026-10-12 18:00 UTC``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC" if at is not None else ""


def _field(at: float | None) -> str:
    """The same as a browser's form wants it."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}" if at is not None else ""


def page(request: Request, template: str, visitor: Visitor | None, status: int = 200, **content: Any) -> HTMLResponse:
    """A page, with what the last form has to say."""
    news = _read_said(request)
    text = _templates().get_template(template).render(visitor=visitor, news=news, **content)
    answer = HTMLResponse(text, status, headers=web_page.headers(parts_of(request).user_hosts))
    if news:
        answer.delete_cookie(_SAID, path=COURSES_PATH)
    return answer


def person_of(visitor: Visitor) -> Person:
    """Whoever looks, as the courses know people."""
    return Person(visitor.user.name, visitor.user.groups, visitor.user.admin)


async def shown(request: Request, show: Callable[[Person], tuple[str, dict[str, Any]] | HttpResponse]) -> HttpResponse:
    """The page (template and content) that ``show`` has for whoever is logged in; others log in first."""
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        return HttpResponse("This page is for people.", 403)  # not for scripts of other pages on this host
    visitor = None
    try:
        visitor = await parts_of(request).signing_in.visitor(request)
        if visitor is None:
            return parts_of(request).signing_in.begin(request)
        found = await run_in_threadpool(show, person_of(visitor))
    except (FabricError, sqlite3.OperationalError) as error:
        return refusal(request, error, visitor)
    if isinstance(found, HttpResponse):
        return found
    template, content = found
    return page(request, template, visitor, **content)


async def acted(request: Request, act: Callable[[Person, Form], tuple[str, str] | HttpResponse]) -> HttpResponse:
    """Take a form of ours: ``act`` gives the path to go to and what to say there."""
    if request.headers.get("sec-fetch-mode", "navigate") != "navigate":
        return HttpResponse("This page is for people.", 403)
    visitor = None
    try:
        visitor = await parts_of(request).signing_in.visitor(request)
        if visitor is None:
            return parts_of(request).signing_in.begin(request)
        form = await _form(request)
        if not hmac.compare_digest(form.fields.get("proof", "").encode(), visitor.proof.encode()):
            raise KeyRefused("This form is out of date, so nothing was done. Go back, reload the page, try again.")
        done = await run_in_threadpool(act, person_of(visitor), form)
    except (FabricError, sqlite3.OperationalError) as error:
        return refusal(request, error, visitor)
    if isinstance(done, HttpResponse):
        return done
    path, said = done
    answer = RedirectResponse(f"{COURSES_PATH}{path}", 303)
    if said:
        answer.set_cookie(_SAID, said[:900].encode().hex(), 30, path=COURSES_PATH, httponly=True, samesite="lax")
    return answer


async def _form(request: Request) -> Form:
    limit = parts_of(request).desk.settings.file_bytes
    async with request.form(max_files=_FILES, max_fields=_FIELDS, max_part_size=1 << 20) as sent:
        return await _read_form(sent, limit)


async def _read_form(sent: FormData, file_bytes: int) -> Form:
    fields: dict[str, str] = {}
    files: dict[str, list[tuple[str, bytes]]] = {}
    for name, value in sent.multi_items():
        if isinstance(value, UploadFile):
            if not value.filename:
                continue  # a field for files that was left empty
            content = await value.read(file_bytes + 1)
            if len(content) > file_bytes:
                raise TooLarge(f"{value.filename[:80]} is larger than {file_bytes // 2**20} MiB.")
            files.setdefault(name, []).append((value.filename, content))
        else:
            fields[name] = value
    return Form(fields, files)


def refusal(request: Request, error: Exception, visitor: Visitor | None) -> HTMLResponse:
    """A page that says why not, and leads back."""
    if isinstance(error, FabricError):
        return page(request, "refused.html", visitor, error.http_status, why=str(error))
    log.error("register of courses cannot be used", reason=str(error))
    busy = NotServing(
        "The register of courses is busy or its disk is full; nothing was changed. Try again in a minute."
    )
    return page(request, "refused.html", visitor, busy.http_status, why=str(busy))


def _read_said(request: Request) -> str:
    try:
        return binascii.unhexlify(request.cookies.get(_SAID, "")).decode()[:900]
    except (ValueError, UnicodeDecodeError):
        return ""
