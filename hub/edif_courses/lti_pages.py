"""The addresses that a learning platform uses, and the page on which its people arrive.

Routes of the course service (:mod:`edif_courses.course_app`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.responses import Response as HttpResponse

from edif_backend.errors import FabricError
from edif_courses.course_frame import Form, acted, parts_of, refusal, shown
from edif_courses.errors import NotNow, Unusable
from edif_courses.lti_token import Launch
from edif_courses.names_roles import published
from edif_courses.records import Person, Role
from edif_protocol.wire import COURSES_PATH

routes = APIRouter(prefix="/lti", default_response_class=HTMLResponse)

_COOKIE = "edif-lti-"
_ATTEMPT_S = 600


@routes.get("/keys")
async def keys(request: Request) -> HttpResponse:
    """This tool's public keys."""
    return JSONResponse(published(parts_of(request).lti_key()), headers={"Cache-Control": "max-age=3600"})


@routes.api_route("/login", methods=["GET", "POST"])
async def login(request: Request) -> HttpResponse:
    """A platform begins a launch; the browser goes back to it for the token."""
    try:
        said = request.query_params if request.method == "GET" else (await _sent(request))
        launches = parts_of(request).lti
        state, address = await run_in_threadpool(
            launches.begin,
            str(said.get("iss", ""))[:500],
            str(said.get("client_id", ""))[:255],
            str(said.get("login_hint", ""))[:2000],
            str(said.get("lti_message_hint", ""))[:2000],
        )
    except FabricError as error:
        return refusal(request, error, None)
    answer = RedirectResponse(address, 303)
    secure = parts_of(request).public_url.startswith("https:")
    # The token comes back in a form that the platform's page sends: a cookie must come along from another site.
    answer.set_cookie(
        _name(state),
        _seal(request, state),
        _ATTEMPT_S,
        path=COURSES_PATH,
        secure=secure,
        httponly=True,
        samesite="none" if secure else "lax",
    )
    return answer


@routes.post("/launch")
async def launch(request: Request) -> HttpResponse:
    """The token of a launch."""
    try:
        said = await _sent(request)
        state, token = str(said.get("state", "")), str(said.get("id_token", ""))
        if said.get("error"):
            raise Unusable("The learning platform did not let this launch happen: start it again from your course.")
        _check_browser(request, state)
        await run_in_threadpool(parts_of(request).lti.finish, state, token)
    except FabricError as error:
        return refusal(request, error, None)
    return RedirectResponse(f"{COURSES_PATH}lti/arrive/{state}", 303)


@routes.get("/arrive/{state}")
async def arrive(request: Request, state: str) -> HttpResponse:
    """Whoever is logged in at the hub, with what the platform said of them."""
    parts = parts_of(request)

    def show(person: Person) -> tuple[str, dict[str, Any]] | HttpResponse:
        _check_browser(request, state)
        found = parts.lti.launched(state)
        parts.lti.check(found, person)
        course = parts.lti.course(found)
        if course is not None and parts.lti.account(found) == person.account:
            course = parts.lti.arrive(state, person)
            parts.hub.ring()
            return RedirectResponse(f"{COURSES_PATH}{course}/", 303)
        return "arrive.html", {
            "launch": found,
            "state": state,
            "linked": parts.lti.account(found) is not None,
            "connected": parts.desk.enrolment.course(course) if course else None,
            "mine": _own_courses(request, found, person),
        }

    return await shown(request, show)


def _own_courses(request: Request, found: Launch, person: Person) -> list[Any]:
    if found.role is not Role.INSTRUCTOR:
        return []
    courses = parts_of(request).desk.enrolment.courses_of(person)
    return [course for course, role in courses if role is Role.INSTRUCTOR]


@routes.post("/arrive/{state}")
async def confirm(request: Request, state: str) -> HttpResponse:
    """Link the platform's person with the one who is logged in; connect the courses if need be."""
    parts = parts_of(request)

    def act(person: Person, form: Form) -> tuple[str, str]:
        _check_browser(request, state)
        course = parts.lti.arrive(state, person, form.text("course", 40))
        parts.hub.ring()
        return f"{course}/", "From now on your learning platform brings you here as this account."

    return await acted(request, act)


async def _sent(request: Request) -> dict[str, str]:
    async with request.form(max_files=0, max_fields=40, max_part_size=1 << 18) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _check_browser(request: Request, state: str) -> None:
    """That this browser began the attempt: nobody is sent into somebody else's launch."""
    sealed = request.cookies.get(_name(state), "")
    if not hmac.compare_digest(sealed.encode(), _seal(request, state).encode()):
        raise NotNow(
            "This launch was not begun in this browser, or the browser keeps no cookies of sites inside others: have"
            " the activity open in a new window, then start it again."
        )


def _name(state: str) -> str:
    return f"{_COOKIE}{state[:8] if state.isalnum() else 'x'}"


def _seal(request: Request, state: str) -> str:
    secret = parts_of(request).lti_secret
    return hmac.new(secret.encode(), f"lti\n{state}".encode(), hashlib.sha256).hexdigest()
