"""The pages of courses: yours, one of them, its roster, its dates.

Routes of the course service (:mod:`edif_courses.course_app`).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.responses import Response as HttpResponse

from edif_courses.course_frame import Form, acted, parts_of, shown
from edif_courses.desk import Desk
from edif_courses.errors import Unusable
from edif_courses.records import Course, Member, Person, Role
from edif_courses.roster_file import Entry, checked_account, checked_line, read_roster

routes = APIRouter(default_response_class=HTMLResponse)


@routes.get("/")
async def index(request: Request) -> HttpResponse:
    """Your courses."""
    desk = parts_of(request).desk

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        now = desk.enrolment.now()
        rows = [(course, role, course.runs(now)) for course, role in desk.enrolment.courses_of(person)]
        return "courses.html", {"courses": rows, "may_create": desk.enrolment.may_create(person), "now": now}

    return await shown(request, show)


@routes.post("/")
async def create(request: Request) -> HttpResponse:
    """Make a course."""
    desk, hub = parts_of(request).desk, parts_of(request).hub

    def act(person: Person, form: Form) -> tuple[str, str]:
        begin, end = form.moment("starts"), form.moment("ends")
        if begin is None or end is None:
            raise Unusable("Say when the course begins and when it ends.")
        course = desk.enrolment.create(person, form.text("id", 40).lower(), form.text("title"), begin, end)
        instructor = form.text("instructor", 64)
        if instructor:
            entry = Entry(checked_account(instructor), "", Role.INSTRUCTOR)
            desk.enrolment.put(course.id, [entry], "page", person.account)
        desk.workspace.prepare(course.id)
        hub.ring()
        return f"{course.id}/", f"The course {course.title} is there."

    return await acted(request, act)


def room_of(request: Request, course: Course) -> str:
    """How the room is, ``unknown`` while the hub does not answer."""
    try:
        return parts_of(request).hub.room_state(course.room)
    except Exception:  # noqa: BLE001 (whatever ails the hub, the page of the course is shown)
        return "unknown"


@routes.get("/{course}/")
async def one(request: Request, course: str) -> HttpResponse:
    """A course, for students and instructors."""
    desk = parts_of(request).desk

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        found, role = desk.enrolment.enter(course, person)
        if found.group(role) not in person.groups:
            parts_of(request).hub.ring()  # on the roster before the first login: the hub knows the account from now on
        return "course.html", {
            "course": found,
            "instructor": role is Role.INSTRUCTOR,
            "runs": found.runs(desk.enrolment.now()),
            "room": room_of(request, found),
            "instructors": [m.shown for m in desk.enrolment.members(course) if m.role is Role.INSTRUCTOR],
            "students": len(desk.enrolment.students(course)),
            "assignments": [_standing(desk, one, person, role) for one in desk.coursework.assignments(course, role)],
            "people": _others(desk, course, role),
            "leaves": [one for one in desk.help_leave.current(course) if one.concerns(person.account)],
            "one_account": not desk.settings.unix_groups,
        }

    return await shown(request, show)


def _others(desk: Desk, course: str, role: Role) -> list[Member]:
    """Whom help is asked of or given to: instructors see students, students instructors."""
    return [member for member in desk.enrolment.members(course) if member.role is not role]


def _standing(desk: Desk, assignment: Any, person: Person, role: Role) -> dict[str, Any]:
    hand_ins = desk.coursework.hand_ins
    if role is Role.INSTRUCTOR:
        return {"assignment": assignment, "in": len(hand_ins.last(assignment.course, assignment.id))}
    mine = hand_ins.of(assignment.course, assignment.id, person.account)
    back = hand_ins.feedback(assignment.course, assignment.id, person.account)
    return {"assignment": assignment, "mine": mine[0] if mine else None, "back": back[0] if back else None}


@routes.post("/{course}/")
async def change(request: Request, course: str) -> HttpResponse:
    """Another title or other dates."""
    desk, hub = parts_of(request).desk, parts_of(request).hub

    def act(person: Person, form: Form) -> tuple[str, str]:
        before, _ = desk.enrolment.enter(course, person, instructor=True)
        begin, end = form.moment("starts"), form.moment("ends")
        desk.enrolment.change(course, person, form.text("title"), begin or before.starts_at, end or before.ends_at)
        hub.ring()
        return f"{course}/", "Title and dates are changed."

    return await acted(request, act)


@routes.get("/{course}/roster")
async def roster(request: Request, course: str) -> HttpResponse:
    """Who is in the course."""
    parts = parts_of(request)
    desk, names_roles = parts.desk, parts.names_roles

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        found, _ = desk.enrolment.enter(course, person, instructor=True)
        return "roster.html", {
            "course": found,
            "members": desk.enrolment.members(course),
            "platform": names_roles.connected(course),
            "expected": names_roles.expected(course),
            "public_url": parts.public_url,
        }

    return await shown(request, show)


@routes.post("/{course}/roster")
async def take_roster(request: Request, course: str) -> HttpResponse:
    """Take a CSV file over, or say of each line what is wrong with it."""
    parts = parts_of(request)
    enrolment = parts.desk.enrolment

    def act(person: Person, form: Form) -> tuple[str, str]:
        found, _ = enrolment.enter(course, person, instructor=True)
        files = list(form.uploads("file").values())
        if not files:
            raise Unusable("Choose the CSV file first.")
        read = read_roster(files[0])
        if read.problems:
            raise RosterProblems(found, read.problems)
        done = enrolment.put(course, read.entries, "csv", person.account, only_these=bool(form.text("only")))
        parts.hub.ring()
        said = f"{len(done.added)} added, {len(done.changed)} changed, {len(done.removed)} removed."
        return f"{course}/roster", said

    return await acted(request, act)


class RosterProblems(Unusable):
    """A roster with lines that cannot be used; the sentence has the first twenty."""

    def __init__(self, course: Course, problems: list[str]) -> None:
        more = f"\n… and {len(problems) - 20} more." if len(problems) > 20 else ""
        super().__init__(f"Nobody was added to {course.id}:\n" + "\n".join(problems[:20]) + more)


@routes.post("/{course}/platform")
async def from_platform(request: Request, course: str) -> HttpResponse:
    """Take names and roles over from the learning platform."""
    parts = parts_of(request)

    def act(person: Person, form: Form) -> tuple[str, str]:
        change, waiting = parts.names_roles.take(person, course)
        parts.hub.ring()
        said = f"{len(change.added)} added, {len(change.changed)} changed; {waiting} have not come here yet."
        return f"{course}/roster", said

    return await acted(request, act)


@routes.post("/{course}/members")
async def members(request: Request, course: str) -> HttpResponse:
    """Add one person, or take one off the roster."""
    parts = parts_of(request)

    def act(person: Person, form: Form) -> tuple[str, str]:
        enrolment = parts.desk.enrolment
        enrolment.enter(course, person, instructor=True)
        gone = form.text("remove", 64)
        if gone:
            enrolment.remove(course, gone, person)
            said = f"{gone} is no longer in the course; what they handed in is kept."
        else:
            account = checked_account(form.text("account", 200))
            role = Role.INSTRUCTOR if form.text("role") == "instructor" else Role.STUDENT
            name = checked_line(form.text("name"), 100, "The name")
            enrolment.put(course, [Entry(account, name, role)], "page", person.account)
            said = f"{account} is in the course as {role}."
        parts.hub.ring()
        return f"{course}/roster", said

    return await acted(request, act)


@routes.post("/{course}/link")
async def link(request: Request, course: str) -> HttpResponse:
    """Open or close the link that lets students in."""
    enrolment = parts_of(request).desk.enrolment

    def act(person: Person, form: Form) -> tuple[str, str]:
        code = enrolment.open_link(course, person, open_it=form.text("open") == "yes")
        return f"{course}/roster", "There is a new link." if code else "The link lets nobody in any more."

    return await acted(request, act)


@routes.get("/join/{code}")
async def join_page(request: Request, code: str) -> HttpResponse:
    """What the link of a course leads to."""
    enrolment = parts_of(request).desk.enrolment

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        course = enrolment.by_link(code)
        return "join.html", {"course": course, "code": code, "already": enrolment.role(course.id, person) is not None}

    return await shown(request, show)


@routes.post("/join/{code}")
async def join(request: Request, code: str) -> HttpResponse:
    """Become a student by a link."""
    parts = parts_of(request)

    def act(person: Person, form: Form) -> tuple[str, str]:
        course = parts.desk.enrolment.join(code, person, form.text("name"))
        parts.hub.ring()
        return f"{course.id}/", f"Welcome to {course.title}."

    return await acted(request, act)
