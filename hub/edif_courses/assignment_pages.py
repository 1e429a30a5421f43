"""The pages of assignments: students fetch, hand in and read what came back; instructors release, collect and answer.

Routes of the course service (:mod:`edif_courses.course_app`).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from fastapi.responses import Response as HttpResponse
from starlette.exceptions import HTTPException

from edif_courses.course_frame import Form, acted, parts_of, shown
from edif_courses.coursework import Coursework, Standing, lateness
from edif_courses.desk import Desk
from edif_courses.errors import Nothing, NotNow, Unusable
from edif_courses.records import Assignment, Course, Feedback, Member, Person, Role, Submission
from edif_protocol.wording import span

routes = APIRouter(default_response_class=HTMLResponse)


@routes.post("/{course}/assignments")
async def make(request: Request, course: str) -> HttpResponse:
    """A new assignment, or other deadlines of one."""
    desk = parts_of(request).desk

    def act(person: Person, form: Form) -> tuple[str, str]:
        id = form.text("id", 40).lower()
        made = desk.coursework.set(
            person, course, id, form.text("title"), form.moment("due"), form.moment("late_until")
        )
        return f"{course}/assignments/{id}", f"{made.title}: title and deadlines are set."

    return await acted(request, act)


@routes.get("/{course}/assignments/{id}")
async def one(request: Request, course: str, id: str) -> HttpResponse:
    """An assignment."""
    desk = parts_of(request).desk

    def show(person: Person) -> tuple[str, dict[str, Any]]:
        found, role = desk.enrolment.enter(course, person)
        assignment = desk.coursework.assignment(course, id, role)
        if role is Role.INSTRUCTOR:
            return "assignment_all.html", _for_instructor(desk, found, assignment)
        return "assignment.html", _for_student(desk, found, assignment, person)

    return await shown(request, show)


def _for_student(desk: Desk, course: Course, assignment: Assignment, person: Person) -> dict[str, Any]:
    hand_ins, now = desk.coursework.hand_ins, desk.enrolment.now()
    try:
        late_s, closed = lateness(course, assignment, now), ""
    except NotNow as error:
        late_s, closed = 0.0, str(error)
    return {
        "course": course,
        "assignment": assignment,
        "submissions": hand_ins.of(course.id, assignment.id, person.account),
        "feedback": hand_ins.feedback(course.id, assignment.id, person.account),
        "fetched": (desk.workspace.of(course.id) / "work" / person.account / assignment.id).is_dir(),
        "late_s": late_s,
        "closed": closed,
        "left_s": assignment.due_at - now if assignment.due_at is not None else None,
    }


def _for_instructor(desk: Desk, course: Course, assignment: Assignment) -> dict[str, Any]:
    hand_ins = desk.coursework.hand_ins
    last, back = hand_ins.last(course.id, assignment.id), hand_ins.feedback_of(course.id, assignment.id)
    times = hand_ins.times(course.id, assignment.id)
    rows: list[tuple[Member, Standing]] = [
        (m, Standing(last.get(m.account), times.get(m.account, 0), back.get(m.account)))
        for m in desk.enrolment.students(course.id)
    ]
    return {
        "course": course,
        "assignment": assignment,
        "rows": rows,
        "missing": [member.shown for member, standing in rows if standing.submission is None],
        "late": sum(1 for _, standing in rows if standing.submission and standing.submission.late_s),
    }


@routes.post("/{course}/assignments/{id}/{do}")
async def do(request: Request, course: str, id: str, do: str) -> HttpResponse:
    """Release, fetch, hand in, collect or answer; each says what came of it."""
    coursework = parts_of(request).desk.coursework
    if do not in _ACTS:
        raise HTTPException(404)

    def act(person: Person, form: Form) -> tuple[str, str]:
        return f"{course}/assignments/{id}", _ACTS[do](coursework, person, course, id, form)

    return await acted(request, act)


def _release(coursework: Coursework, person: Person, course: str, id: str, form: Form) -> str:
    """Hand out the files that were sent, or those in ``grading/release``."""
    files = form.uploads("files")
    done = coursework.release(person, course, id, files) if files else coursework.release_folder(person, course, id)
    return f"Release {done.release} of {done.title} is out: students can fetch it."


def _fetch(coursework: Coursework, person: Person, course: str, id: str, form: Form) -> str:
    """Put the release into the student's folder."""
    names = coursework.fetch(person, course, id)
    there = f"courses/{course}/work/{id}"
    return f"In {there}: {', '.join(names)}." if names else f"You have all of it already, in {there}."


def _submit(coursework: Coursework, person: Person, course: str, id: str, form: Form) -> str:
    """Hand in the student's folder, or the files that were sent."""
    sent = form.uploads("files")
    if form.text("how") == "files" and not sent:
        raise Unusable("Choose the files first.")
    done = coursework.submit(person, course, id, sent or None)
    late = f", {span(done.late_s)} late" if done.late_s else ", in time"
    return f"Handed in{late}: {done.files} file{'s' if done.files > 1 else ''}, receipt {done.digest[:12]}."


def _collect(coursework: Coursework, person: Person, course: str, id: str, form: Form) -> str:
    """Copy the last submissions to where nbgrader and people grade them."""
    count = coursework.collect(person, course, id)
    return f"{count} new in courses/{course}/grading/submitted." if count else "There is nothing new to collect."


def _feedback(coursework: Coursework, person: Person, course: str, id: str, form: Form) -> str:
    """Return feedback to one student, or all that lies in ``grading/feedback``."""
    account = form.text("account", 64)
    if not account:
        done = coursework.answer_folder(person, course, id)
        return f"Returned to {len(done)} students." if done else "There is no new feedback in grading/feedback."
    files = form.uploads("files")
    coursework.answer(person, course, id, account, files, form.number("score"), form.text("remark"))
    return f"Returned to {account}."


_ACTS: dict[str, Callable[[Coursework, Person, str, str, Form], str]] = {
    "release": _release,
    "fetch": _fetch,
    "submit": _submit,
    "collect": _collect,
    "feedback": _feedback,
}


@routes.get("/{course}/assignments/{id}/{kind}/{account}/{stamp}.zip")
async def download(request: Request, course: str, id: str, kind: str, account: str, stamp: str) -> HttpResponse:
    """The files of a submission, or of feedback: for the student whose they are, and instructors."""
    desk = parts_of(request).desk

    def show(person: Person) -> HttpResponse:
        _, role = desk.enrolment.enter(course, person)
        if role is not Role.INSTRUCTOR and account != person.account:
            raise Nothing("There is no such submission of yours.")
        hand_ins = desk.coursework.hand_ins
        lists: dict[str, Callable[[str, str, str], Sequence[Submission | Feedback]]] = {
            "submissions": hand_ins.of,
            "feedback": hand_ins.feedback,
        }
        found = lists[kind](course, id, account) if kind in lists else ()
        chosen = [one for one in found if one.stamp == stamp]
        if not chosen:
            raise Nothing("There is no such submission.")
        name = f"{course}-{id}-{account}-{stamp}.zip"
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }
        return HttpResponse(
            _zipped(desk.coursework.folder_of(chosen[0])), media_type="application/zip", headers=headers
        )

    return await shown(request, show)


def _zipped(folder: Path) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as into:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and not file.is_symlink():
                into.write(file, file.relative_to(folder).as_posix())
    return packed.getvalue()
