"""Rows of submissions and feedback in the register: added and read, never changed.

Used by :mod:`edif_courses.coursework`, which places their files.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from datetime import UTC, datetime

from edif_courses.errors import NotNow
from edif_courses.records import Feedback, Submission
from edif_courses.register import Register


class HandIns:
    """What was handed in, and what came back."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def note(self, one: Submission) -> None:
        """Add a submission."""
        self._add("submissions", dataclasses.asdict(one))

    def note_feedback(self, one: Feedback) -> None:
        """Add feedback."""
        self._add("feedback", dataclasses.asdict(one))

    def of(self, course: str, assignment: str, account: str) -> list[Submission]:
        """One student's submissions of an assignment, the newest first."""
        query = (
            "SELECT * FROM submissions WHERE course = :course AND assignment = :assignment AND account = :account"
            " ORDER BY stamp DESC"
        )
        rows = self._register.read(query, course=course, assignment=assignment, account=account)
        return [Submission(*row) for row in rows]

    def feedback(self, course: str, assignment: str, account: str) -> list[Feedback]:
        """All feedback on one student's work, the newest first."""
        query = (
            "SELECT * FROM feedback WHERE course = :course AND assignment = :assignment AND account = :account"
            " ORDER BY stamp DESC"
        )
        return [
            Feedback(*row) for row in self._register.read(query, course=course, assignment=assignment, account=account)
        ]

    def last(self, course: str, assignment: str) -> dict[str, Submission]:
        """The last submission of every account that has any."""
        query = "SELECT * FROM submissions WHERE course = :course AND assignment = :assignment ORDER BY stamp"
        rows = self._register.read(query, course=course, assignment=assignment)
        return {row["account"]: Submission(*row) for row in rows}

    def times(self, course: str, assignment: str) -> dict[str, int]:
        """How often each account has handed in."""
        query = (
            "SELECT account, count(*) FROM submissions WHERE course = :course AND assignment = :assignment"
            " GROUP BY account"
        )
        return {row[0]: row[1] for row in self._register.read(query, course=course, assignment=assignment)}

    def feedback_of(self, course: str, assignment: str) -> dict[str, Feedback]:
        """The last feedback of every account that has any."""
        query = "SELECT * FROM feedback WHERE course = :course AND assignment = :assignment ORDER BY stamp"
        rows = self._register.read(query, course=course, assignment=assignment)
        return {row["account"]: Feedback(*row) for row in rows}

    def _add(self, table: str, row: dict[str, object]) -> None:
        names = ", ".join(f":{name}" for name in row)
        try:
            self._register.write(f"INSERT INTO {table} VALUES ({names})", row)  # noqa: S608 (names are ours)
        except sqlite3.IntegrityError:
            raise NotNow("That was sent twice at once; the first one counts.") from None


def stamp_of(moment: float) -> str:
    """A moment as the name of a folder: sorted as text they are sorted by time."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%S.%fZ")
