"""``edif course``: everything that the pages of courses do, for whoever runs the workbench.

Found by the ``edif`` command through the entry point ``edif.commands``; runs in the operator's shell, on the register
itself.  The course service and the hub follow within half a minute, at once if they run.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_courses.command_desk import OPERATOR, Id, browsers_reach, moment, opened
from edif_courses.command_fabric import app as fabric
from edif_courses.command_lti import app as lti
from edif_courses.course_words import day, hours, minute
from edif_courses.errors import Unusable
from edif_courses.hub_side import HubSide
from edif_courses.records import Role
from edif_courses.roster_file import Entry, checked_account, checked_line, read_roster

app = typer.Typer(help="Courses: rosters, assignments, rooms.", no_args_is_help=True)
app.add_typer(fabric, name="fabric")
app.add_typer(lti, name="lti")

Assigned = Annotated[str, typer.Argument(help="Short name of the assignment.")]
Files = Annotated[list[Path] | None, typer.Argument(exists=True, dir_okay=False, help="Files.")]


@app.command("list")
def show(as_json: AsJson = False) -> None:
    """All courses."""
    with opened() as desk:
        rows = [(c, len(desk.enrolment.students(c.id))) for c in desk.enrolment.all()]
    if as_json:
        show_json([{**dataclasses.asdict(course), "students": count} for course, count in rows])
        return
    shown = [(c.id, c.title, day(c.starts_at), day(c.ends_at), count) for c, count in rows]
    show_table(("Id", "Title", "Begins", "Ends", "Students"), shown, "No course yet; `edif course new` makes one.")


@app.command("new")
def new(
    id: Id,
    title: Annotated[str, typer.Option(help="As people read it.")],
    starts: Annotated[str, typer.Option("--from", help="First day: 2026-10-12.")],
    ends: Annotated[str, typer.Option("--until", help="When it is over: 2027-02-15.")],
    instructor: Annotated[list[str] | None, typer.Option(help="Account of an instructor; may be given again.")] = None,
) -> None:
    """Make a course."""
    begin, end = moment("--from", starts), moment("--until", ends)
    assert begin is not None
    assert end is not None
    people = [Entry(checked_account(name), "", Role.INSTRUCTOR) for name in instructor or ()]
    with opened(ring=True) as desk:
        desk.enrolment.create(OPERATOR, id, title, begin, end)
        desk.enrolment.put(id, people, "command", OPERATOR.account)
        desk.workspace.prepare(id)
    say(f"The course {id} is there.")


@app.command("roster")
def roster(
    id: Id,
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help="CSV file to take over.")] = None,
    only: Annotated[bool, typer.Option("--only", help="Students who are not in the file leave.")] = False,
    as_json: AsJson = False,
) -> None:
    """Who is in a course; with a CSV file, take it over."""
    with opened(ring=file is not None) as desk:
        desk.enrolment.course(id)
        if file is not None:
            read = read_roster(file.read_bytes())
            if read.problems:
                raise Unusable("Nobody was added:\n" + "\n".join(read.problems))
            done = desk.enrolment.put(id, read.entries, "command", OPERATOR.account, only_these=only)
            say(f"{len(done.added)} added, {len(done.changed)} changed, {len(done.removed)} removed.")
        members = desk.enrolment.members(id)
    if as_json:
        show_json([dataclasses.asdict(member) for member in members])
    elif file is None:
        rows = [(m.account, m.name, m.role, day(m.added_at), m.added_by) for m in members]
        show_table(("Account", "Name", "Role", "Added", "By"), rows, "Nobody yet.")


@app.command("add")
def add(
    id: Id,
    account: Annotated[str, typer.Argument(help="Account of the hub.")],
    name: Annotated[str, typer.Option(help="Name for the roster.")] = "",
    instructor: Annotated[bool, typer.Option("--instructor", help="As an instructor.")] = False,
) -> None:
    """Take one person into a course."""
    role = Role.INSTRUCTOR if instructor else Role.STUDENT
    with opened(ring=True) as desk:
        desk.enrolment.course(id)
        entry = Entry(checked_account(account), checked_line(name, 100, "The name"), role)
        desk.enrolment.put(id, [entry], "command", OPERATOR.account)
    say(f"{account} is in {id} as {role}.")


@app.command("remove")
def remove(id: Id, account: Annotated[str, typer.Argument(help="Account of the hub.")]) -> None:
    """End somebody's place in a course; what they handed in is kept."""
    with opened(ring=True) as desk:
        desk.enrolment.remove(id, account, OPERATOR)
    say(f"{account} is no longer in {id}.")


@app.command("link")
def link(id: Id, close: Annotated[bool, typer.Option("--close", help="Let nobody in any more.")] = False) -> None:
    """Make a link that lets students in, in place of the one before."""
    with opened() as desk:
        code = desk.enrolment.open_link(id, OPERATOR, open_it=not close)
    if code:
        print(f"{browsers_reach()}/services/courses/join/{code}")
    else:
        say("The link lets nobody in any more.")


@app.command("assignments")
def assignments(id: Id, as_json: AsJson = False) -> None:
    """The assignments of a course."""
    with opened() as desk:
        desk.enrolment.course(id)
        found = desk.coursework.assignments(id, Role.INSTRUCTOR)
        counts = {one.id: len(desk.coursework.hand_ins.last(id, one.id)) for one in found}
    if as_json:
        show_json([{**dataclasses.asdict(one), "handed_in": counts[one.id]} for one in found])
        return
    rows = [(a.id, a.title, minute(a.due_at), a.release or "no", f"{a.points:g}", counts[a.id]) for a in found]
    show_table(("Id", "Title", "Due", "Release", "Points", "Handed in"), rows, "There is none yet.")


@app.command("assign")
def assign(
    id: Id,
    assignment: Assigned,
    title: Annotated[str, typer.Option(help="As people read it.")],
    due: Annotated[str | None, typer.Option(help='Deadline in UTC: "2026-10-20 18:00".')] = None,
    late_until: Annotated[str | None, typer.Option(help="Until when late work is taken.")] = None,
) -> None:
    """Make an assignment, or change its title and deadlines."""
    with opened() as desk:
        moments = moment("--due", due), moment("--late-until", late_until)
        desk.coursework.set(OPERATOR, id, assignment, title, *moments)
    say(f"{assignment} is set; `edif course release {id} {assignment} FILE.ipynb` hands it out.")


@app.command("release")
def release(id: Id, assignment: Assigned, files: Files = None) -> None:
    """Hand out files, or what lies in grading/release."""
    with opened() as desk:
        if files:
            sent = {file.name: file.read_bytes() for file in files}
            done = desk.coursework.release(OPERATOR, id, assignment, sent)
        else:
            done = desk.coursework.release_folder(OPERATOR, id, assignment)
    say(f"Release {done.release} of {assignment} is out ({done.points:g} points).")


@app.command("standing")
def standing(id: Id, assignment: Assigned, as_json: AsJson = False) -> None:
    """Who has handed in, how late, and what came back."""
    with opened() as desk:
        desk.coursework.assignment(id, assignment, Role.INSTRUCTOR)
        last, back = desk.coursework.hand_ins.last(id, assignment), desk.coursework.hand_ins.feedback_of(id, assignment)
        records: list[dict[str, Any]] = []
        for member in desk.enrolment.students(id):
            one, answer = last.get(member.account), back.get(member.account)
            records.append(
                {
                    "account": member.account,
                    "name": member.name,
                    "submitted_at": one.submitted_at if one else None,
                    "late_s": one.late_s if one else None,
                    "score": answer.score if answer else None,
                }
            )
    if as_json:
        show_json(records)
        return
    rows = [
        (r["account"], r["name"], minute(r["submitted_at"]) or "not handed in", hours(r["late_s"]), r["score"])
        for r in records
    ]
    show_table(("Account", "Name", "Handed in", "Late", "Points"), rows, "The course has no students yet.")


@app.command("collect")
def collect(id: Id, assignment: Assigned) -> None:
    """Copy the last submissions to grading/submitted, as nbgrader wants them."""
    with opened() as desk:
        count = desk.coursework.collect(OPERATOR, id, assignment)
        at = desk.workspace.of(id) / "grading" / "submitted"
    say(f"{count} new in {at}.")


@app.command("feedback")
def feedback(id: Id, assignment: Assigned) -> None:
    """Return what is new in grading/feedback."""
    with opened() as desk:
        done = desk.coursework.answer_folder(OPERATOR, id, assignment)
    say(f"Returned to {len(done)} students.")


@app.command("room")
def room(id: Id, action: Annotated[str, typer.Argument(help="start, stop or state.")] = "state") -> None:
    """The course's shared server."""
    with opened() as desk:
        account = desk.enrolment.course(id).room
    hub = HubSide(find_installation())
    try:
        if action == "start":
            hub.start_room(account)
        elif action == "stop":
            hub.stop_room(account)
        elif action != "state":
            raise Unusable(f"{action!r} is none of start, stop and state.")
        print(hub.room_state(account))
    finally:
        hub.close()


@app.command("log")
def log(id: Id) -> None:
    """Who did what in a course: one JSON object a line."""
    with opened() as desk:
        for line in desk.trail.lines(id):
            print(json.dumps(line))
