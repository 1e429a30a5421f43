"""Leave to help: an instructor enters a student's server when the student has said yes, for a while, and it is noted.

Used by the pages; the hub reads :meth:`HelpLeave.given` and makes the rights of it (:mod:`edif_hub.course_hooks`).
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass

from edif_courses.enrolment import Enrolment
from edif_courses.errors import NotAllowed, Nothing, NotNow, Unusable
from edif_courses.records import Person, Role
from edif_courses.register import Register
from edif_courses.roster_file import checked_line
from edif_courses.trail import Trail

#: What was asked for and not answered is forgotten after this long.
_ASKED_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Leave:
    """An instructor's leave to enter a student's server: asked for, given, ended."""

    id: str
    course: str
    student: str
    instructor: str
    reason: str
    asked_at: float
    given_at: float | None
    ends_at: float | None
    ended_at: float | None

    def concerns(self, account: str) -> bool:
        """Whether it is shown to somebody."""
        return account in {self.student, self.instructor}

    def open(self, now: float) -> bool:
        """Whether it lets in."""
        return self.given_at is not None and self.ended_at is None and self.ends_at is not None and now < self.ends_at

    def asked(self, now: float) -> bool:
        """Whether it waits for the student's word."""
        return self.given_at is None and self.ended_at is None and now < self.asked_at + _ASKED_S


class HelpLeave:
    """Every leave of every course."""

    def __init__(self, register: Register, enrolment: Enrolment, trail: Trail, longest_s: int) -> None:
        self._register = register
        self._enrolment = enrolment
        self._trail = trail
        self._longest_s = longest_s

    def ask(self, by: Person, course: str, student: str, reason: str) -> None:
        """An instructor asks to be let in."""
        self._enrolment.enter(course, by, instructor=True)
        self._student(course, student)
        said = checked_line(reason, 200, "The reason")
        if not said:
            raise Unusable("Say why, in a few words: the student reads it.")
        if any(one.instructor == by.account and one.student == student for one in self.current(course)):
            raise NotNow("You have asked already, or have been let in.")
        self._add(course, student, by.account, said, None)
        self._trail.note("help-asked", by.account, course, student=student, reason=said)

    def offer(self, by: Person, course: str, instructor: str, minutes: float) -> None:
        """A student lets an instructor in unasked."""
        self._enrolment.enter(course, by)
        self._student(course, by.account)
        known = {m.account for m in self._enrolment.members(course) if m.role is Role.INSTRUCTOR}
        if instructor not in known:
            raise Nothing("That is no instructor of this course.")
        self._add(course, by.account, instructor, "", self._length(minutes))
        self._trail.note("help-given", by.account, course, instructor=instructor, minutes=minutes)

    def give(self, by: Person, course: str, id: str, minutes: float) -> None:
        """The student says yes."""
        leave = self._mine(by, course, id)
        now = self._enrolment.now()
        if by.account != leave.student:
            raise NotAllowed("Only the student can let you in.")
        if not leave.asked(now):
            raise NotNow("That was answered already, or is too long ago.")
        values = {"id": id, "now": now, "ends": now + self._length(minutes)}
        self._register.write(
            "UPDATE leaves SET given_at = :now, ends_at = :ends WHERE id = :id AND given_at IS NULL", values
        )
        self._trail.note("help-given", by.account, course, instructor=leave.instructor, minutes=minutes)

    def end(self, by: Person, course: str, id: str) -> None:
        """The student says no, or takes it back; or the instructor is done."""
        leave = self._mine(by, course, id)
        values = {"id": id, "now": self._enrolment.now()}
        self._register.write("UPDATE leaves SET ended_at = :now WHERE id = :id AND ended_at IS NULL", values)
        self._trail.note("help-ended", by.account, course, student=leave.student, instructor=leave.instructor)

    def enter(self, by: Person, course: str, id: str) -> Leave:
        """Note that an instructor goes in.

        Raises:
            NotAllowed: without leave.
        """
        leave = self._mine(by, course, id)
        if leave.instructor != by.account or not leave.open(self._enrolment.now()):
            raise NotAllowed("You may enter this server only while its student lets you.")
        self._trail.note("help-entered", by.account, course, student=leave.student)
        return leave

    def current(self, course: str) -> list[Leave]:
        """What waits for an answer or lets in, in one course."""
        now = self._enrolment.now()
        rows = self._register.read(
            "SELECT * FROM leaves WHERE course = :c AND ended_at IS NULL ORDER BY asked_at", c=course
        )
        return [leave for leave in map(_leave, rows) if leave.open(now) or leave.asked(now)]

    def given(self) -> list[Leave]:
        """What lets in now, in all courses: of people who are still what they were in it."""
        now = self._enrolment.now()
        rows = self._register.read("SELECT * FROM leaves WHERE given_at IS NOT NULL AND ended_at IS NULL")
        found = [leave for leave in map(_leave, rows) if leave.open(now)]
        return [
            one for one in found if self._role(one, one.instructor) is Role.INSTRUCTOR and self._role(one, one.student)
        ]

    def _role(self, leave: Leave, account: str) -> Role | None:
        roles = {member.account: member.role for member in self._enrolment.members(leave.course)}
        return roles.get(account)

    def _student(self, course: str, account: str) -> None:
        if account not in {member.account for member in self._enrolment.students(course)}:
            raise Nothing(f"{account[:64]} is no student in this course's roster.")

    def _mine(self, by: Person, course: str, id: str) -> Leave:
        rows = self._register.read("SELECT * FROM leaves WHERE id = :id AND course = :course", id=id, course=course)
        leave = _leave(rows[0]) if rows else None
        if leave is None or by.account not in {leave.student, leave.instructor}:
            raise Nothing("There is no such leave of yours.")
        return leave

    def _length(self, minutes: float) -> float:
        if not 0 < minutes * 60 <= self._longest_s:
            raise Unusable(f"Between one and {self._longest_s // 60} minutes.")
        return minutes * 60

    def _add(self, course: str, student: str, instructor: str, reason: str, length_s: float | None) -> None:
        now = self._enrolment.now()
        values = {
            "id": secrets.token_hex(8),
            "course": course,
            "student": student,
            "instructor": instructor,
            "reason": reason,
            "now": now,
            "given": now if length_s is not None else None,
            "ends": now + length_s if length_s is not None else None,
        }
        self._register.write(
            "INSERT INTO leaves VALUES (:id, :course, :student, :instructor, :reason, :now, :given, :ends, NULL)",
            values,
        )


def _leave(row: sqlite3.Row) -> Leave:
    return Leave(*row)
