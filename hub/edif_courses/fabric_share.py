"""What a course may use of the fabric: limits of its members and its room, lab hours, models; and what they have used.

Set by instructors within what the operator allows (:class:`~edif_courses.settings.CourseSettings`), through the limits
and reservations of the jobs database, which gateway and dispatcher follow (``docs/decisions/fair-shares.md``).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from edif_backend.errors import FabricError
from edif_backend.jobs import Jobs, Reservation, Use
from edif_courses.enrolment import Enrolment
from edif_courses.errors import CourseError, Nothing, NotNow, Unusable
from edif_courses.records import Course, Member, Person, Role
from edif_courses.register import Register
from edif_courses.settings import CourseSettings
from edif_courses.trail import Trail

#: Whose limits: those of each student, or of the room's account.
STUDENTS, ROOM = "students", "room"


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit that instructors may set."""

    name: str  #: as the backend calls it
    said: str
    most: float
    whole: bool


class FabricShare:
    """Limits, lab hours and models of courses.

    Args:
        open_jobs: opens the jobs database; closed again after each use.
    """

    def __init__(
        self,
        register: Register,
        enrolment: Enrolment,
        trail: Trail,
        settings: CourseSettings,
        open_jobs: Callable[[], Jobs],
    ) -> None:
        self._register = register
        self._enrolment = enrolment
        self._trail = trail
        self._settings = settings
        self._open_jobs = open_jobs

    @property
    def bounds(self) -> list[Bound]:
        """What may be set, and the most of it."""
        found = self._settings
        return [
            Bound("weight", "Share of the devices, relative to others", found.highest_weight, whole=False),
            Bound("queued_jobs", "Jobs that may wait", found.highest_queued_jobs, whole=True),
            Bound("running_jobs", "Jobs that may run at once", found.highest_running_jobs, whole=True),
            Bound(
                "device_seconds_per_day",
                "Seconds of their jobs a day",
                found.highest_device_seconds_per_day,
                whole=False,
            ),
        ]

    def said(self, course: Course) -> dict[str, dict[str, Any]]:
        """What is set for each student and for the room."""
        with self._jobs() as jobs:
            found = jobs.limits_set()
        return {who: found.get(_subject(course, who), {}) for who in (STUDENTS, ROOM)}

    def limit(self, by: Person, course: str, who: str, values: dict[str, float | None]) -> None:
        """Set limits; None leaves one to what counts for everybody.

        Raises:
            Unusable: more than the operator allows, or nothing at all.
        """
        found, _ = self._enrolment.enter(course, by, instructor=True)
        if who not in {STUDENTS, ROOM}:
            raise Unusable("Limits are set for the students or for the room.")
        ours: dict[str, float | None] = {}
        for bound in self.bounds:
            value = values.get(bound.name)
            if value is not None and not 0 < value <= bound.most:
                raise Unusable(f"{bound.said}: more than 0 and at most {bound.most:g}; more is the operator's to give.")
            if value is not None and bound.whole and value != int(value):
                raise Unusable(f"{bound.said}: a whole number.")
            ours[bound.name] = int(value) if value is not None and bound.whole else value
        subject = _subject(found, who)
        with self._jobs() as jobs:
            before = jobs.limits_set().get(subject, {})
            said = {name: value for name, value in {**before, **ours}.items() if value is not None}
            try:
                jobs.set_limits(subject, said)
            except ValidationError as error:
                raise Unusable(str(error.errors()[0]["msg"])) from error
        self._trail.note("limits-set", by.account, course, who=who, limits=said)

    # -- lab hours --------------------------------------------------------------

    def lab_hours(self, course: Course) -> list[Reservation]:
        """Those that are not over."""
        with self._jobs() as jobs:
            return [one for one in jobs.reservations(jobs.now()) if one.group == course.group(Role.STUDENT)]

    def reserve(self, by: Person, course: str, starts_at: float, hours: float, weight: float) -> Reservation:
        """A lab hour: each student has at least this weight in that time.

        Raises:
            Unusable, NotNow: outside of what the operator allows, or of the course.
        """
        found, _ = self._enrolment.enter(course, by, instructor=True)
        settings = self._settings
        if not 0 < hours <= settings.longest_lab_h:
            raise Unusable(f"A lab hour lasts at most {settings.longest_lab_h:g} hours.")
        if not 0 < weight <= settings.highest_weight:
            raise Unusable(f"The weight of a lab hour is at most {settings.highest_weight:g}.")
        made = Reservation(secrets.token_hex(4), found.group(Role.STUDENT), weight, starts_at, starts_at + hours * 3600)
        if made.ends_at <= self._enrolment.now() or made.starts_at < found.starts_at or made.ends_at > found.ends_at:
            raise Unusable("That time is over, or not within the course.")
        if len(self.lab_hours(found)) >= settings.lab_hours_ahead:
            raise NotNow(f"A course plans {settings.lab_hours_ahead} lab hours ahead: cancel one first.")
        with self._jobs() as jobs:
            jobs.reserve(made)
        self._trail.note("lab-hour", by.account, course, id=made.id, weight=weight, starts_at=starts_at, hours=hours)
        return made

    def cancel(self, by: Person, course: str, id: str) -> None:
        """Take a lab hour of this course back."""
        found, _ = self._enrolment.enter(course, by, instructor=True)
        if id not in {one.id for one in self.lab_hours(found)}:
            raise Nothing("There is no such lab hour of this course.")
        with self._jobs() as jobs:
            jobs.unreserve(id)
        self._trail.note("lab-hour-cancelled", by.account, course, id=id)

    # -- models -----------------------------------------------------------------

    def grants(self, course: str) -> set[str]:
        """Groups that this course puts its members into."""
        return {row[0] for row in self._register.read("SELECT member_of FROM grants WHERE course = :c", c=course)}

    def set_grants(self, by: Person, course: str, wanted: set[str]) -> None:
        """Open models to the course: of those groups that the operator lets instructors give."""
        self._enrolment.enter(course, by, instructor=True)
        if wanted - set(self._settings.grants):
            raise Unusable("The operator has not left that to instructors.")
        with self._register.change() as connection:
            connection.execute("DELETE FROM grants WHERE course = ?", (course,))
            connection.executemany("INSERT INTO grants VALUES (?, ?)", [(course, group) for group in sorted(wanted)])
        self._trail.note("models-opened", by.account, course, groups=sorted(wanted))

    def granted(self) -> dict[str, set[str]]:
        """Every group that courses may give, with the accounts that are in it now by a course that runs."""
        found: dict[str, set[str]] = {group: set() for group in self._settings.grants}
        now = self._enrolment.now()
        for course in self._enrolment.all():
            given = self.grants(course.id) if course.runs(now) else set()
            for group in given & set(found):
                found[group] |= {member.account for member in self._enrolment.members(course.id)} | {course.room}
        return found

    # -- use --------------------------------------------------------------------

    def use(self, course: Course) -> list[tuple[Member | None, Use]]:
        """What each student has under way and has used today, and the room (None)."""
        students = self._enrolment.students(course.id)
        with self._jobs() as jobs:
            rows: list[tuple[Member | None, Use]] = [(member, jobs.use(member.account)) for member in students]
            return [*rows, (None, jobs.use(course.room))]

    @contextmanager
    def _jobs(self) -> Iterator[Jobs]:
        try:
            jobs = self._open_jobs()
        except FabricError as error:
            raise CourseError(f"The fabric cannot be asked: {error}") from error
        try:
            yield jobs
        finally:
            jobs.close()


def _subject(course: Course, who: str) -> str:
    return f"user:{course.room}" if who == ROOM else f"group:{course.group(Role.STUDENT)}"
