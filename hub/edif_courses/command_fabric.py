"""``edif course fabric``: limits, lab hours, models and use of a course.

Registered by :mod:`edif_courses.command`; runs in the operator's shell.  What an instructor may set is bounded here as
on the page; ``edif limits set --group course:ID:student`` has no such bounds.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer

from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_courses.command_desk import OPERATOR, Id, moment, opened
from edif_courses.course_words import minute
from edif_courses.errors import Unusable
from edif_courses.fabric_share import ROOM, STUDENTS

app = typer.Typer(help="Limits, lab hours, models and use of a course.", no_args_is_help=True)


@app.command("show")
def show(id: Id, as_json: AsJson = False) -> None:
    """What is set for a course, and what its people have used today."""
    with opened() as desk:
        course = desk.enrolment.course(id)
        found: dict[str, Any] = {
            "limits": desk.share.said(course),
            "lab_hours": [dataclasses.asdict(one) for one in desk.share.lab_hours(course)],
            "models": sorted(desk.share.grants(id)),
            "use": {
                member.account if member else course.room: dataclasses.asdict(used)
                for member, used in desk.share.use(course)
            },
        }
    if as_json:
        show_json(found)
        return
    for who, said in found["limits"].items():
        say(f"Limits of the {who}: {', '.join(f'{name}={value:g}' for name, value in said.items()) or 'as for all'}.")
    hours = [(h["id"], minute(h["starts_at"]), minute(h["ends_at"]), f"{h['weight']:g}") for h in found["lab_hours"]]
    show_table(("Id", "From", "Until", "Weight"), hours, "No lab hour is planned.")
    rows = [
        (name, used["queued_jobs"], used["running_jobs"], f"{used['device_seconds_today']:.0f} s")
        for name, used in found["use"].items()
    ]
    show_table(("Account", "Waiting", "Running", "Today"), rows, "")


@app.command("limit")
def limit(
    id: Id,
    values: Annotated[list[str], typer.Argument(metavar="NAME=VALUE", help="such as weight=2; weight=: as for all")],
    room: Annotated[bool, typer.Option("--room", help="Of the room, not of each student.")] = False,
) -> None:
    """Set limits of each student, or of the room; what is not named stays."""
    who = ROOM if room else STUDENTS
    with opened() as desk:
        names = [bound.name for bound in desk.share.bounds]
        said = desk.share.said(desk.enrolment.course(id))[who]
        wanted: dict[str, float | None] = {name: said.get(name) for name in names}
        for value in values:
            name, separator, text = value.partition("=")
            if not separator or name not in names:
                raise Unusable(f"{value!r} is not understood: write NAME=VALUE, of {', '.join(names)}.")
            try:
                wanted[name] = float(text) if text else None
            except ValueError:
                raise Unusable(f"{text!r} is no number.") from None
        desk.share.limit(OPERATOR, id, who, wanted)
    say("The limits are set; they count within seconds.")


@app.command("lab")
def lab(
    id: Id,
    start: Annotated[str, typer.Option("--from", help='In UTC: "2026-10-20 10:00".')],
    hours: Annotated[float, typer.Option(help="How long.")] = 1.5,
    weight: Annotated[float, typer.Option(help="Of each student, in that time.")] = 4.0,
) -> None:
    """Plan a lab hour."""
    begin = moment("--from", start)
    assert begin is not None
    with opened() as desk:
        made = desk.share.reserve(OPERATOR, id, begin, hours, weight)
    say(f"Planned; `edif course fabric cancel {id} {made.id}` takes it back.")


@app.command("cancel")
def cancel(id: Id, lab_hour: Annotated[str, typer.Argument(help="Id from `edif course fabric show`.")]) -> None:
    """Take a lab hour back."""
    with opened() as desk:
        desk.share.cancel(OPERATOR, id, lab_hour)
    say("The lab hour is cancelled.")


@app.command("models")
def models(
    id: Id, groups: Annotated[list[str] | None, typer.Argument(help="Groups of models; none: take all back.")] = None
) -> None:
    """Open models to a course: groups that the setting ``grants`` names."""
    with opened(ring=True) as desk:
        desk.enrolment.course(id)
        desk.share.set_grants(OPERATOR, id, set(groups or ()))
    say("Opened as said.")
