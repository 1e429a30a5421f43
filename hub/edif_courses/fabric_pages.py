"""The pages of a course's share of the fabric, of its room, and of help in students' servers.

Routes of the course service (:mod:`edif_courses.course_app`).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.responses import Response as HttpResponse

from edif_courses.course_frame import Form, acted, parts_of, shown
from edif_courses.errors import NotAllowed, NotNow, Unusable
from edif_courses.records import Person, Role

routes = APIRouter(default_response_class=HTMLResponse)


@routes.post("/{course}/room")
async def room(request: Request, course: str) -> HttpResponse:
    """Start the room, or stop it."""
    parts = parts_of(request)

    def act(person: Person, form: Form) -> tuple[str, str]:
        found, role = parts.desk.enrolment.enter(course, person)
        if form.text("do") == "stop":
            if role is not Role.INSTRUCTOR:
                raise NotAllowed("Only instructors stop the room: others may be working in it.")
            parts.hub.stop_room(found.room)
            parts.desk.trail.note("room-stopped", person.account, course)
            return f"{course}/", "The room is stopped. What was saved stays."
        if not found.runs(parts.desk.enrolment.now()):
            raise NotNow("The room is open while the course runs.")
        parts.hub.ring()
        parts.hub.start_room(found.room)
        parts.desk.trail.note("room-started", person.account, course)
        return f"{course}/", "The room is starting; it takes up to a minute."

    return await acted(request, act)


@routes.get("/{course}/fabric")
async def fabric(request: Request, course: str) -> HttpResponse:
    """What the course may use, and has used."""
    desk, catalogue = parts_of(request).desk, parts_of(request).catalogue

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        found, _ = desk.enrolment.enter(course, person, instructor=True)
        catalogue.refresh()
        groups = {found.group(Role.STUDENT)} | desk.share.grants(course)
        return "fabric.html", {
            "course": found,
            "bounds": desk.share.bounds,
            "said": desk.share.said(found),
            "lab_hours": desk.share.lab_hours(found),
            "use": desk.share.use(found),
            "offered": desk.settings.grants,
            "grants": desk.share.grants(course),
            "models": [entry.id for entry in catalogue.entries if entry.open_to(groups)],
            "settings": desk.settings,
        }

    return await shown(request, show)


@routes.post("/{course}/fabric")
async def set_fabric(request: Request, course: str) -> HttpResponse:
    """Set limits, plan or cancel a lab hour, open models."""
    parts = parts_of(request)
    share = parts.desk.share

    def act(person: Person, form: Form) -> tuple[str, str]:
        here = f"{course}/fabric"
        what = form.text("what")
        if what == "limits":
            values = {bound.name: form.number(bound.name) for bound in share.bounds}
            share.limit(person, course, form.text("who"), values)
            return here, "The limits are set; they count within seconds."
        if what == "lab":
            begin, hours, weight = form.moment("starts"), form.number("hours"), form.number("weight")
            if begin is None or hours is None or weight is None:
                raise Unusable("Say when it begins, how long it lasts and what weight each student has then.")
            share.reserve(person, course, begin, hours, weight)
            return here, "The lab hour is planned."
        if what == "cancel":
            share.cancel(person, course, form.text("id"))
            return here, "The lab hour is cancelled."
        if what == "models":
            chosen = {name.removeprefix("group-") for name in form.fields if name.startswith("group-")}
            share.set_grants(person, course, chosen)
            parts.hub.ring()
            return here, "Opened as chosen; notebooks that run see it within half a minute."
        raise Unusable("That form is not known here.")

    return await acted(request, act)


@routes.post("/{course}/help")
async def help_with(request: Request, course: str) -> HttpResponse:
    """Ask to be let in, let in, refuse, end."""
    parts = parts_of(request)
    leaves = parts.desk.help_leave

    def act(person: Person, form: Form) -> tuple[str, str]:
        what, id, minutes = form.text("do"), form.text("id", 32), form.number("minutes") or 60
        if what == "ask":
            leaves.ask(person, course, form.text("student", 64), form.text("reason"))
            return f"{course}/", "Asked: the student sees it on the page of the course."
        if what == "offer":
            leaves.offer(person, course, form.text("instructor", 64), minutes)
            said = "They can enter your server now; you can end that at any time."
        elif what == "give":
            leaves.give(person, course, id, minutes)
            said = "They can enter your server now; you can end that at any time."
        elif what == "end":
            leaves.end(person, course, id)
            said = "Ended: your server lets nobody else in from half a minute from now on."
        else:
            raise Unusable("That form is not known here.")
        parts.hub.ring()
        return f"{course}/", said

    return await acted(request, act)


@routes.post("/{course}/help/{id}/open")
async def open_server(request: Request, course: str, id: str) -> HttpResponse:
    """Go into the student's server, which is noted."""
    desk = parts_of(request).desk

    def act(person: Person, form: Form) -> HttpResponse:
        leave = desk.help_leave.enter(person, course, id)
        return RedirectResponse(f"/user/{leave.student}/lab", 303)

    return await acted(request, act)
