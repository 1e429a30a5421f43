"""Assignments: released, fetched, handed in, collected, answered.  Nothing that somebody handed in is ever overwritten.

Used by the pages and the ``edif course`` command.  Files lie in the workspace, rows in the register::

    releases/AID/N/             what was handed out, and each correction of it
    work/ACCOUNT/AID/           the student's own copy
    submissions/ACCOUNT/AID/STAMP/     what was handed in, each time
    feedback/ACCOUNT/AID/STAMP/        what came back
    grading/submitted/ACCOUNT/AID/     collected, as nbgrader wants it; its feedback is taken from grading/feedback/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edif_courses.enrolment import Enrolment
from edif_courses.errors import NotAllowed, Nothing, NotNow, TooLarge, Unusable
from edif_courses.hand_ins import HandIns, stamp_of
from edif_courses.nbgrader_format import points, read_notebook, student_version
from edif_courses.records import ID_PATTERN, Assignment, Course, Feedback, Person, Role, Submission
from edif_courses.register import Register
from edif_courses.roster_file import checked_line
from edif_courses.safe_tree import Bounds, checked_name, copy_tree, folder, holds, place, read_small
from edif_courses.settings import CourseSettings
from edif_courses.trail import Trail
from edif_courses.workspace import Workspace

_ASSIGNMENT = (
    "SELECT a.course, a.id, a.title, a.due_at, a.late_until, a.made_at, coalesce(max(r.number), 0),"
    " coalesce((SELECT points FROM releases WHERE course = a.course AND assignment = a.id ORDER BY number DESC), 0)"
    " FROM assignments a LEFT JOIN releases r ON r.course = a.course AND r.assignment = a.id"
    " WHERE a.course = :course"
)


class Coursework:
    """The assignments of all courses."""

    def __init__(
        self, register: Register, enrolment: Enrolment, workspace: Workspace, trail: Trail, settings: CourseSettings
    ) -> None:
        self._register = register
        self._enrolment = enrolment
        self._workspace = workspace
        self._trail = trail
        self._settings = settings
        self.hand_ins = HandIns(register)

    # -- reading ----------------------------------------------------------------

    def assignments(self, course: str, role: Role) -> list[Assignment]:
        """The assignments of a course by deadline; students see those that were released."""
        rows = self._register.read(
            f"{_ASSIGNMENT} GROUP BY a.id ORDER BY a.due_at IS NULL, a.due_at, a.id", course=course
        )
        found = [Assignment(*row) for row in rows]
        return [one for one in found if one.release or role is Role.INSTRUCTOR]

    def assignment(self, course: str, id: str, role: Role) -> Assignment:
        """One assignment.

        Raises:
            Nothing: there is none, or none yet for students.
        """
        rows = self._register.read(f"{_ASSIGNMENT} AND a.id = :id GROUP BY a.id", course=course, id=id)
        found = Assignment(*rows[0]) if rows else None
        if found is None or not (found.release or role is Role.INSTRUCTOR):
            raise Nothing(f"There is no assignment {id[:40]!r} in this course.")
        return found

    # -- instructors ------------------------------------------------------------

    def set(
        self, by: Person, course: str, id: str, title: str, due_at: float | None, late_until: float | None
    ) -> Assignment:
        """Make an assignment, or change its title and deadlines."""
        self._enrolment.enter(course, by, instructor=True)
        if not re.fullmatch(ID_PATTERN, id):
            raise Unusable("The short name of an assignment has small letters, digits and hyphens, 31 at most: week-1.")
        if due_at is not None and late_until is not None and late_until < due_at:
            raise Unusable("Late submissions cannot end before the deadline.")
        values = {
            "course": course,
            "id": id,
            "title": checked_line(title, 120, "The title") or id,
            "due_at": due_at,
            "late_until": late_until,
            "now": self._enrolment.now(),
        }
        self._register.write(
            "INSERT INTO assignments VALUES (:course, :id, :title, :due_at, :late_until, :now) ON CONFLICT (course, id)"
            " DO UPDATE SET title = excluded.title, due_at = excluded.due_at, late_until = excluded.late_until",
            values,
        )
        self._trail.note("assignment-set", by.account, course, assignment=id, due_at=due_at, late_until=late_until)
        return self.assignment(course, id, Role.INSTRUCTOR)

    def release(self, by: Person, course: str, id: str, files: Mapping[str, bytes]) -> Assignment:
        """Hand out files: notebooks go without their solutions.  Again: a correction, beside what was fetched before.

        Raises:
            Unusable: a file that cannot be handed out; nothing is released then.
        """
        self._enrolment.enter(course, by, instructor=True)
        before = self.assignment(course, id, Role.INSTRUCTOR)
        made, worth = self._handed_out(files)
        self._workspace.prepare(course)
        at = self._workspace.of(course) / "releases" / id
        at.mkdir(exist_ok=True)
        draft = at / f".draft-{secrets.token_hex(4)}"
        draft.mkdir()
        for name, content in made.items():
            (draft / name).write_bytes(content)
        numbers = [int(found.name) for found in at.iterdir() if found.name.isdecimal()]
        number = max(before.release, 0, *numbers) + 1
        try:
            draft.rename(at / str(number))
        except OSError:
            shutil.rmtree(draft)
            raise NotNow("Somebody released this assignment at the same time: look at it, then try again.") from None
        values = {"c": course, "a": id, "n": number, "by": by.account, "now": self._enrolment.now(), "points": worth}
        self._register.write("INSERT INTO releases VALUES (:c, :a, :n, :by, :now, :points)", values)
        self._trail.note("assignment-released", by.account, course, assignment=id, release=number, files=sorted(made))
        return self.assignment(course, id, Role.INSTRUCTOR)

    def release_folder(self, by: Person, course: str, id: str) -> Assignment:
        """Hand out what lies in ``grading/release/AID``, where ``nbgrader generate_assignment`` puts it."""
        self._enrolment.enter(course, by, instructor=True)
        draft = self._workspace.of(course) / "grading" / f".release-{secrets.token_hex(4)}"
        draft.mkdir()
        try:
            with folder(self._workspace.of(course) / "grading", "release", id) as found:
                copied = copy_tree(found, draft, self._bounds())
            if any("/" in one.path for one in copied):
                raise Unusable("Folders inside a release are not handed out: put the files side by side.")
            files = {one.path: (draft / one.path).read_bytes() for one in copied}
        finally:
            shutil.rmtree(draft)
        return self.release(by, course, id, files)

    def _handed_out(self, files: Mapping[str, bytes]) -> tuple[dict[str, bytes], float]:
        made: dict[str, bytes] = {}
        worth = 0.0
        for given, content in files.items():
            name = checked_name(given)
            if len(content) > self._settings.file_bytes:
                raise TooLarge(f"{name} is larger than {self._settings.file_bytes // 2**20} MiB.")
            if name.endswith(".ipynb"):
                notebook = student_version(read_notebook(content, name), name)
                worth += points(notebook)
                made[name] = json.dumps(notebook, indent=1, ensure_ascii=False).encode() + b"\n"
            else:
                made[name] = content
        if not any(name.endswith(".ipynb") for name in made):
            raise Unusable("An assignment needs a notebook (a file that ends in .ipynb).")
        return made, worth

    def collect(self, by: Person, course: str, id: str) -> int:
        """Copy each student's last submission to ``grading/submitted``; what lay there goes to ``grading/earlier``."""
        self._enrolment.enter(course, by, instructor=True)
        self.assignment(course, id, Role.INSTRUCTOR)
        last = self.hand_ins.last(course, id).values()
        collected = sum(self._collect(self._workspace.of(course) / "grading", one) for one in last)
        self._trail.note("collected", by.account, course, assignment=id, new=collected)
        return collected

    def _collect(self, grading: Path, one: Submission) -> bool:
        """Every step from an open folder: instructors write there, and a link must not lead this account elsewhere."""
        label = "edif-submission.txt"
        with folder(grading, "submitted", one.account, make=True) as into:
            before = read_small(into, one.assignment, label)
            if before == one.stamp:
                return False
            if holds(into, one.assignment):
                with folder(grading, "earlier", one.account, make=True) as earlier:
                    kept = f"{one.assignment}@{before or secrets.token_hex(4)}"
                    os.rename(one.assignment, kept, src_dir_fd=into, dst_dir_fd=earlier)
            draft = grading / f".collected-{secrets.token_hex(4)}"
            shutil.copytree(self.folder_of(one), draft)
            for file in draft.rglob("*"):
                file.chmod(0o770 if file.is_dir() else 0o660)
            moment = datetime.fromtimestamp(one.submitted_at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f UTC")
            (draft / "timestamp.txt").write_text(moment, encoding="ascii")  # nbgrader's
            (draft / label).write_text(one.stamp, encoding="ascii")
            os.rename(draft, one.assignment, dst_dir_fd=into)
        return True

    def answer(
        self,
        by: Person,
        course: str,
        id: str,
        account: str,
        files: Mapping[str, bytes],
        score: float | None,
        remark: str,
    ) -> Feedback:
        """Return feedback on a student's last submission.

        Raises:
            Nothing: that student has handed in nothing.
            Unusable: there is nothing to return.
        """
        self._enrolment.enter(course, by, instructor=True)
        last = self.hand_ins.last(course, id).get(account)
        if last is None:
            raise Nothing(f"{account[:64]} has not handed in this assignment, so there is nothing to answer.")
        said = remark.strip()[:4000]
        if not files and not said and score is None:
            raise Unusable("Feedback needs a file, points or a remark.")
        named = {checked_name(name): content for name, content in files.items()}
        now = self._enrolment.now()
        made = Feedback(course, id, account, stamp_of(now), last.stamp, by.account, now, score, said, len(named))
        self._workspace.personal(course, account)
        at = self._workspace.of(course) / "feedback" / account / id
        at.mkdir(exist_ok=True)
        (at / made.stamp).mkdir()
        for name, content in named.items():
            (at / made.stamp / name).write_bytes(content)
        self.hand_ins.note_feedback(made)
        self._trail.note("feedback", by.account, course, assignment=id, account=account, score=score)
        return made

    def answer_folder(self, by: Person, course: str, id: str) -> list[Feedback]:
        """Return what lies in ``grading/feedback/ACCOUNT/AID``, where ``nbgrader generate_feedback`` puts it."""
        self._enrolment.enter(course, by, instructor=True)
        grading, returned = self._workspace.of(course) / "grading", []
        known = self.hand_ins.feedback_of(course, id)
        for account in sorted(self.hand_ins.last(course, id)):
            draft = grading / f".feedback-{secrets.token_hex(4)}"
            draft.mkdir()
            try:
                with contextlib.suppress(Nothing), folder(grading, "feedback", account, id) as found:
                    copy_tree(found, draft, self._bounds())
                files = {one.name: one.read_bytes() for one in sorted(draft.iterdir()) if one.is_file()}
                before = known.get(account)
                if files and not (before and self._same(before, files)):
                    returned.append(self.answer(by, course, id, account, files, None, ""))
            finally:
                shutil.rmtree(draft)
        return returned

    def _same(self, before: Feedback, files: Mapping[str, bytes]) -> bool:
        at = self._workspace.of(before.course) / "feedback" / before.account / before.assignment / before.stamp
        there = {one.name: one for one in at.iterdir()}
        return set(there) == set(files) and all(there[name].read_bytes() == content for name, content in files.items())

    # -- students ---------------------------------------------------------------

    def fetch(self, person: Person, course: str, id: str) -> list[str]:
        """Put the last release into the student's folder, never over a file; gives the names of what is new."""
        self._enrolment.enter(course, person)
        found = self.assignment(course, id, Role.STUDENT)
        self._workspace.personal(course, person.account)
        source = self._workspace.of(course) / "releases" / id / str(found.release)
        with folder(self._workspace.of(course) / "work", person.account, id, make=True) as into:
            placed = [
                place(into, file.name, file.read_bytes(), f"release {found.release}")
                for file in sorted(source.iterdir())
            ]
        names = [name for name in placed if name]
        self._trail.note("fetched", person.account, course, assignment=id, release=found.release, files=names)
        return names

    def submit(self, person: Person, course: str, id: str, files: Mapping[str, bytes] | None = None) -> Submission:
        """Hand in: what lies in the student's folder, or the files that were sent instead.

        Raises:
            NotNow: too early or too late; NotAllowed: not a student's to do.
            Nothing, Unusable, TooLarge: there is nothing that can be handed in.
        """
        found, role = self._enrolment.enter(course, person)
        if role is not Role.STUDENT:
            raise NotAllowed("You are an instructor of this course; students hand in.")
        assignment = self.assignment(course, id, Role.STUDENT)
        now = self._enrolment.now()
        late_s = lateness(found, assignment, now)
        if len(self.hand_ins.of(course, id, person.account)) >= self._settings.submissions_kept:
            raise NotNow(f"You have handed this in {self._settings.submissions_kept} times: ask your instructor.")
        self._workspace.personal(course, person.account)
        at = self._workspace.of(course) / "submissions" / person.account / id
        at.mkdir(exist_ok=True)
        draft = at / f".draft-{secrets.token_hex(4)}"
        draft.mkdir()
        try:
            submission = self._hand_in(found, assignment, person.account, draft, now, late_s, files)
            draft.rename(at / submission.stamp)
        except BaseException:
            shutil.rmtree(draft)
            raise
        self.hand_ins.note(submission)
        self._trail.note("handed-in", person.account, course, assignment=id, stamp=submission.stamp, late_s=late_s)
        return submission

    def _hand_in(
        self,
        course: Course,
        assignment: Assignment,
        account: str,
        draft: Path,
        now: float,
        late_s: float,
        files: Mapping[str, bytes] | None,
    ) -> Submission:
        if files is not None:
            sent = draft.parent / f"{draft.name}-sent"
            sent.mkdir()
            try:
                for name, content in files.items():
                    (sent / checked_name(name)).write_bytes(content)
                with folder(sent) as source:
                    copied = copy_tree(source, draft, self._bounds())
            finally:
                shutil.rmtree(sent)
        else:
            with self._fetched(course.id, account, assignment.id) as source:
                copied = copy_tree(source, draft, self._bounds())
        notebooks = [one.path for one in copied if one.path.endswith(".ipynb")]
        if not notebooks:
            raise Unusable(
                "There is no notebook to hand in. Fetch the assignment, work in it, save it, then hand it in."
            )
        for name in notebooks:
            read_notebook((draft / name).read_bytes(), name)
        manifest = "".join(f"{one.sha256}  {one.path}\n" for one in copied)
        size = sum(one.bytes for one in copied)
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        stamp = stamp_of(now)
        return Submission(course.id, assignment.id, account, stamp, now, late_s, len(copied), size, digest)

    @contextlib.contextmanager
    def _fetched(self, course: str, account: str, assignment: str) -> Iterator[int]:
        try:
            with folder(self._workspace.of(course) / "work", account, assignment) as found:
                yield found
        except Nothing:
            raise Nothing(
                "You have not fetched this assignment: fetch it, work in it, save it, then hand it in."
            ) from None

    def folder_of(self, one: Submission | Feedback) -> Path:
        """Where the files of a submission or of feedback lie."""
        kind = "submissions" if isinstance(one, Submission) else "feedback"
        return self._workspace.of(one.course) / kind / one.account / one.assignment / one.stamp

    def _bounds(self) -> Bounds:
        return Bounds(self._settings.file_bytes, self._settings.submission_bytes, self._settings.submission_files)


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a student is with an assignment."""

    submission: Submission | None
    times: int
    feedback: Feedback | None


def lateness(course: Course, assignment: Assignment, now: float) -> float:
    """By how many seconds a submission at ``now`` is late, 0 if it is not.

    Raises:
        NotNow: it is not taken.
    """
    if not course.runs(now):
        over = now >= course.ends_at
        raise NotNow(f"The course {course.title} {'is over' if over else 'has not begun'}: nothing can be handed in.")
    if assignment.late_until is not None and now >= assignment.late_until:
        raise NotNow("The time for this assignment is over, for late work too. Ask your instructor.")
    return max(0.0, now - assignment.due_at) if assignment.due_at is not None else 0.0
