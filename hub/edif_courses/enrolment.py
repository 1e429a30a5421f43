"""Courses and who is in them.  Every change of either is here, judged and noted.

Used by the pages, the ``edif course`` command and LTI launches; the hub reads through :func:`rosters`.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edif_courses.errors import NotAllowed, Nothing, NotNow, Unusable
from edif_courses.records import ID_PATTERN, Course, Member, Person, Role
from edif_courses.register import Register
from edif_courses.roster_file import Entry, checked_account, checked_line
from edif_courses.trail import Trail

TITLE_CHARACTERS = 120
_LONGEST_S = 5 * 366 * 86400.0
_CLAIM = re.compile(rf"course:({ID_PATTERN}):(student|instructor)")
_MEMBER = "course, account, role, name, source, added_by, added_at"


@dataclass(frozen=True, slots=True)
class Change:
    """What taking over a roster has done."""

    added: list[str]
    changed: list[str]
    removed: list[str]


class Enrolment:
    """Courses and members in the register.

    Args:
        creators: groups of the hub whose members may make courses.
    """

    def __init__(
        self, register: Register, trail: Trail, clock: Callable[[], float], creators: Iterable[str] = ()
    ) -> None:
        self._register = register
        self._trail = trail
        self.now = clock
        self._creators = frozenset(creators)

    # -- reading ----------------------------------------------------------------

    def all(self) -> list[Course]:
        """Every course, the newest first."""
        return [Course(*row) for row in self._register.read("SELECT * FROM courses ORDER BY starts_at DESC, id")]

    def courses_of(self, person: Person) -> list[tuple[Course, Role]]:
        """The courses that ``person`` sees, with what they are in each; operators are instructors everywhere."""
        found = ((course, self.role(course.id, person)) for course in self.all())
        return [(course, role) for course, role in found if role is not None and self._open(course, role)]

    def course(self, id: str) -> Course:
        """The course ``id``.

        Raises:
            Nothing: there is none.
        """
        rows = self._register.read("SELECT * FROM courses WHERE id = :id", id=id)
        if not rows:
            raise Nothing(f"There is no course {id[:40]!r}.")
        return Course(*rows[0])

    def role(self, course: str, person: Person) -> Role | None:
        """What ``person`` is in a course by roster or by a group of the university; of both, the higher.

        Whoever was taken off the roster is out, whatever the groups say.
        """
        rows = self._register.read(
            "SELECT role, left_at FROM members WHERE course = :course AND account = :account",
            course=course,
            account=person.account,
        )
        if rows and rows[0]["left_at"] is not None and not person.operator:
            return None
        found = {str(row["role"]) for row in rows}
        found |= {match[2] for group in person.groups if (match := _CLAIM.fullmatch(group)) and match[1] == course}
        if person.operator or Role.INSTRUCTOR in found:
            return Role.INSTRUCTOR
        return Role.STUDENT if found else None

    def enter(self, id: str, person: Person, *, instructor: bool = False) -> tuple[Course, Role]:
        """The course for somebody who is in it.

        Raises:
            Nothing: there is none, or not for this person.
            NotAllowed: it takes an instructor.
            NotNow: it has not begun, or is over, for a student.
        """
        role = self.role(id, person)
        if role is None:
            raise Nothing(f"There is no course {id[:40]!r} for you. If you should be in it, ask your instructor.")
        course = self.course(id)
        if instructor and role is not Role.INSTRUCTOR:
            raise NotAllowed("Only instructors of the course may do that.")
        if not self._open(course, role):
            raise NotNow(f"The course {course.title} has not begun yet.")
        return course, role

    def left(self, course: str, account: str) -> bool:
        """Whether somebody was in the roster and is no more."""
        query = "SELECT 1 FROM members WHERE course = :course AND account = :account AND left_at IS NOT NULL"
        return bool(self._register.read(query, course=course, account=account))

    def gone(self, course: str) -> set[str]:
        """Everybody who was in the roster and is no more."""
        query = "SELECT account FROM members WHERE course = :course AND left_at IS NOT NULL"
        return {row[0] for row in self._register.read(query, course=course)}

    def members(self, course: str) -> list[Member]:
        """Who is in a course: instructors, then students, by name."""
        query = f"SELECT {_MEMBER} FROM members WHERE course = :course AND left_at IS NULL ORDER BY role, name, account"  # noqa: S608 (fixed columns)
        return [_member(row) for row in self._register.read(query, course=course)]

    def students(self, course: str) -> list[Member]:
        """The students of a course, by name."""
        return [member for member in self.members(course) if member.role is Role.STUDENT]

    # -- changes ----------------------------------------------------------------

    def may_create(self, person: Person) -> bool:
        """Whether ``person`` may make courses."""
        return person.operator or bool(self._creators & person.groups)

    def create(self, by: Person, id: str, title: str, starts_at: float, ends_at: float) -> Course:
        """A new course; whoever makes it is its first instructor, unless it is the operator.

        Raises:
            NotAllowed, NotNow, Unusable: with the reason.
        """
        if not self.may_create(by):
            raise NotAllowed("Courses are made by whoever runs this workbench: ask them.")
        if not re.fullmatch(ID_PATTERN, id):
            raise Unusable("The short name of a course has small letters, digits and hyphens, 31 at most: ling101.")
        course = Course(id, _title(title), *_span(starts_at, ends_at), by.account, self.now(), None)
        try:
            with self._register.change() as connection:
                connection.execute(
                    "INSERT INTO courses VALUES (:id, :title, :starts_at, :ends_at, :made_by, :made_at, NULL)",
                    {name: getattr(course, name) for name in Course.__slots__},
                )
        except sqlite3.IntegrityError:
            raise NotNow(f"There is a course {id} already: choose another short name.") from None
        self._trail.note("made", by.account, id, title=course.title)
        if not by.operator:
            self.put(id, [Entry(by.account, "", Role.INSTRUCTOR)], "page", by.account)
        return course

    def change(self, id: str, by: Person, title: str, starts_at: float, ends_at: float) -> None:
        """Another title, beginning or end."""
        self.enter(id, by, instructor=True)
        begin, end = _span(starts_at, ends_at)
        values = {"id": id, "title": _title(title), "begin": begin, "end": end}
        self._register.write(
            "UPDATE courses SET title = :title, starts_at = :begin, ends_at = :end WHERE id = :id", values
        )
        self._trail.note("changed", by.account, id, title=title, starts_at=begin, ends_at=end)

    def put(self, course: str, entries: Iterable[Entry], source: str, by: str, *, only_these: bool = False) -> Change:
        """Take people in, or change their name and role; with ``only_these`` other *students* leave.

        Nobody loses the role of instructor by a roster: that is done by name, with :meth:`remove`.
        """
        added: list[str] = []
        changed: list[str] = []
        listed: set[str] = set()
        with self._register.change() as connection:
            for entry in entries:
                listed.add(entry.account)
                before = connection.execute(
                    "SELECT role, name FROM members WHERE course = ? AND account = ? AND left_at IS NULL",
                    (course, entry.account),
                ).fetchone()
                role = Role.INSTRUCTOR if before and before["role"] == Role.INSTRUCTOR else entry.role
                name = entry.name or (before["name"] if before else "")
                if before and (before["role"], before["name"]) == (role, name):
                    continue
                connection.execute(
                    f"INSERT INTO members ({_MEMBER}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (course, account)"  # noqa: S608 (fixed columns)
                    " DO UPDATE SET role = excluded.role, name = excluded.name, source = excluded.source,"
                    " added_by = excluded.added_by, added_at = excluded.added_at, left_at = NULL",
                    (course, entry.account, role, name, source, by, self.now()),
                )
                (changed if before else added).append(entry.account)
            removed = self._gone(connection, course, listed) if only_these else []
        change = Change(added, changed, removed)
        if added or changed or removed:
            self._trail.note("roster", by, course, source=source, added=added, changed=changed, removed=removed)
        return change

    def _gone(self, connection: sqlite3.Connection, course: str, listed: set[str]) -> list[str]:
        rows = connection.execute(
            "SELECT account FROM members WHERE course = ? AND role = 'student' AND left_at IS NULL", (course,)
        ).fetchall()
        gone = sorted({str(row["account"]) for row in rows} - listed)
        connection.executemany(
            "UPDATE members SET left_at = ? WHERE course = ? AND account = ?",
            [(self.now(), course, account) for account in gone],
        )
        return gone

    def remove(self, course: str, account: str, by: Person) -> None:
        """End somebody's place in a course; what they handed in stays."""
        _, _ = self.enter(course, by, instructor=True)
        left = [m for m in self.members(course) if m.role is Role.INSTRUCTOR and m.account != account]
        if account == by.account and not left:
            raise NotNow("You are the only instructor of the course: add another one first.")
        values = {"course": course, "account": checked_account(account), "now": self.now()}
        gone = self._register.write(
            "UPDATE members SET left_at = :now WHERE course = :course AND account = :account AND left_at IS NULL",
            values,
        )
        if not gone:
            raise Nothing(f"{account[:64]} is not in the course's roster.")
        self._trail.note("member-removed", by.account, course, account=account)

    # -- joining by a link -------------------------------------------------------

    def open_link(self, course: str, by: Person, *, open_it: bool) -> str | None:
        """A new link that lets people in as students, or none any more; the one before is worth nothing from now on."""
        self.enter(course, by, instructor=True)
        code = secrets.token_urlsafe(15) if open_it else None
        self._register.write("UPDATE courses SET join_code = :code WHERE id = :id", {"code": code, "id": course})
        self._trail.note("join-link-opened" if code else "join-link-closed", by.account, course)
        return code

    def by_link(self, code: str) -> Course:
        """The course that a link leads into.

        Raises:
            Nothing: to none, any more.
        """
        rows = self._register.read("SELECT * FROM courses WHERE join_code = :code", code=code)
        if not rows:
            raise Nothing("This link leads into no course, or not any more: ask your instructor for the present one.")
        course = Course(*rows[0])
        if self.now() >= course.ends_at:
            raise NotNow(f"The course {course.title} is over.")
        return course

    def join(self, code: str, person: Person, name: str) -> Course:
        """Become a student of the course that a link leads into."""
        course = self.by_link(code)
        if self.left(course.id, person.account):
            raise NotAllowed("You were taken off the roster of this course: ask your instructor.")
        entry = Entry(checked_account(person.account), checked_line(name, 100, "Your name"), Role.STUDENT)
        self.put(course.id, [entry], "link", person.account)
        return course

    def _open(self, course: Course, role: Role) -> bool:
        """Students see a course once it has begun, and their work in it for ever."""
        return role is Role.INSTRUCTOR or self.now() >= course.starts_at


def _member(row: sqlite3.Row) -> Member:
    course, account, role, *more = row
    return Member(course, account, Role(role), *more)


def _title(text: str) -> str:
    title = checked_line(text, TITLE_CHARACTERS, "The title")
    if not title:
        raise Unusable("The course needs a title.")
    return title


def _span(starts_at: float, ends_at: float) -> tuple[float, float]:
    if not starts_at < ends_at <= starts_at + _LONGEST_S:
        raise Unusable("The course must end after it begins, and within five years.")
    return starts_at, ends_at
