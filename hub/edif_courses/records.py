"""The words of courses as records: course, member, assignment, release, submission, feedback.

Read from the register (:mod:`edif_courses.register`), shown by pages and command.  Times are seconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

#: Names of courses and assignments: folder names, parts of group names and of addresses at once.
ID_PATTERN = r"[a-z0-9][a-z0-9-]{0,30}"
#: Accounts of rooms; nobody can log in with a name that begins so.
ROOM_PREFIX = "room-"


class Role(StrEnum):
    """What somebody is in a course."""

    STUDENT = "student"
    INSTRUCTOR = "instructor"


@dataclass(frozen=True, slots=True)
class Person:
    """Whoever asks: an account of the hub with its groups; ``operator`` may do everything that instructors may."""

    account: str
    groups: frozenset[str] = field(default_factory=frozenset)
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Course:
    """One course; it can be entered from ``starts_at`` to ``ends_at``, by instructors always."""

    id: str
    title: str
    starts_at: float
    ends_at: float
    made_by: str
    made_at: float
    join_code: str | None

    def runs(self, moment: float) -> bool:
        """Whether students may enter and submit."""
        return self.starts_at <= moment < self.ends_at

    @property
    def room(self) -> str:
        """The account of its shared server."""
        return f"{ROOM_PREFIX}{self.id}"

    def group(self, role: Role) -> str:
        """The hub's group of those who are ``role`` in it; limits and models of the fabric go by it."""
        return f"course:{self.id}:{role}"


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody's place in a course."""

    course: str
    account: str
    role: Role
    name: str
    source: str  #: page, csv, link, lti, command
    added_by: str
    added_at: float

    @property
    def shown(self) -> str:
        """The name that the roster has, or the account's."""
        return self.name or self.account


@dataclass(frozen=True, slots=True)
class Assignment:
    """Work that students hand in."""

    course: str
    id: str
    title: str
    due_at: float | None
    late_until: float | None  #: None: until the course ends
    made_at: float
    release: int  #: number of the last release, 0: not released
    points: float


@dataclass(frozen=True, slots=True)
class Submission:
    """What a student handed in, once."""

    course: str
    assignment: str
    account: str
    stamp: str
    submitted_at: float
    late_s: float
    files: int
    bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class Feedback:
    """What came back to a student."""

    course: str
    assignment: str
    account: str
    stamp: str
    submission: str
    returned_by: str
    returned_at: float
    score: float | None
    remark: str
    files: int
