"""What instructors may give their course of the fabric, and leave to help in a student's server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edif_backend.jobs import open_jobs
from edif_courses.desk import Desk, open_desk
from edif_courses.errors import CourseError, NotAllowed, Nothing, NotNow, Unusable
from edif_courses.records import Course, Person, Role
from edif_courses.roster_file import Entry
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation

OPERATOR, PROF, ADA, BOB = Person("admin", operator=True), Person("prof"), Person("ada"), Person("bob")
_BEGIN = 1_800_000_000.0
_HOUR = 3600.0


@pytest.fixture
def now() -> list[float]:
    return [_BEGIN]


@pytest.fixture
def desk(tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    settings = CourseSettings(highest_weight=3, longest_lab_h=2, lab_hours_ahead=2, grants={"large": "Large models"})
    made = open_desk(Installation(home=tmp_path), settings, lambda: now[0])
    made.enrolment.create(OPERATOR, "ling", "Linguistics", _BEGIN - 1, _BEGIN + 100 * _HOUR)
    people = [Entry("prof", "", Role.INSTRUCTOR), Entry("ada", "", Role.STUDENT), Entry("bob", "", Role.STUDENT)]
    made.enrolment.put("ling", people, "csv", "admin")
    yield made
    made.close()


@pytest.fixture
def course(desk: Desk) -> Course:
    return desk.enrolment.course("ling")


def test_limits_stay_within_the_operators_and_keep_what_the_operator_set(
    desk: Desk, course: Course, tmp_path: Path
) -> None:
    jobs = open_jobs(tmp_path / "jobs" / "jobs.sqlite")
    jobs.set_limits("group:course:ling:student", {"stored_bytes": 5})
    desk.share.limit(PROF, "ling", "students", {"weight": 2, "running_jobs": 2})
    desk.share.limit(PROF, "ling", "room", {"queued_jobs": 9})
    assert jobs.limits_set() == {
        "group:course:ling:student": {"stored_bytes": 5, "weight": 2.0, "running_jobs": 2},
        "user:room-ling": {"queued_jobs": 9},
    }
    desk.share.limit(PROF, "ling", "students", {"weight": None})
    assert desk.share.said(course)["students"] == {"stored_bytes": 5}
    for wrong in ({"weight": 3.1}, {"weight": 0}, {"running_jobs": 1.5}, {"running_jobs": 0}, {"queued_jobs": -1}):
        with pytest.raises(Unusable):
            desk.share.limit(PROF, "ling", "students", wrong)
    with pytest.raises(NotAllowed):
        desk.share.limit(ADA, "ling", "students", {"weight": 3})
    with pytest.raises(Unusable):
        desk.share.limit(PROF, "ling", "everybody", {"weight": 1})
    jobs.close()


def test_lab_hours_are_bounded_and_the_courses_own(desk: Desk, course: Course, tmp_path: Path) -> None:
    made = desk.share.reserve(PROF, "ling", _BEGIN + _HOUR, 2, 3)
    assert (made.group, made.weight, made.ends_at - made.starts_at) == ("course:ling:student", 3, 2 * _HOUR)
    for starts_at, hours, weight in (
        (_BEGIN + _HOUR, 2.1, 3),
        (_BEGIN + _HOUR, 1, 3.1),
        (_BEGIN - 9 * _HOUR, 1, 1),
        (_BEGIN + 99.5 * _HOUR, 1, 1),
        (_BEGIN + _HOUR, 0, 1),
    ):
        with pytest.raises(Unusable):
            desk.share.reserve(PROF, "ling", starts_at, hours, weight)
    desk.share.reserve(PROF, "ling", _BEGIN + 9 * _HOUR, 1, 1)
    with pytest.raises(NotNow, match="cancel one"):
        desk.share.reserve(PROF, "ling", _BEGIN + 20 * _HOUR, 1, 1)
    desk.enrolment.create(OPERATOR, "other", "Other", _BEGIN - 1, _BEGIN + 9)
    with pytest.raises(Nothing):  # the operator, in another course than the lab hour's
        desk.share.cancel(OPERATOR, "other", made.id)
    desk.share.cancel(PROF, "ling", made.id)
    assert [one.id == made.id for one in desk.share.lab_hours(course)] == [False]


def test_models_are_opened_to_members_while_the_course_runs(desk: Desk, now: list[float]) -> None:
    with pytest.raises(Unusable, match="operator"):
        desk.share.set_grants(PROF, "ling", {"staff"})
    desk.share.set_grants(PROF, "ling", {"large"})
    assert desk.share.granted() == {"large": {"prof", "ada", "bob", "room-ling"}}
    desk.enrolment.remove("ling", "bob", PROF)
    assert "bob" not in desk.share.granted()["large"]
    now[0] += 200 * _HOUR
    assert desk.share.granted() == {"large": set()}


def test_use_is_told_of_every_student_and_the_room(desk: Desk, course: Course) -> None:
    rows = desk.share.use(course)
    assert [member.account if member else None for member, _ in rows] == ["ada", "bob", None]


def test_an_instructor_enters_only_with_the_students_word(desk: Desk, now: list[float]) -> None:
    leaves = desk.help_leave
    leaves.ask(PROF, "ling", "ada", "cell 4")
    (asked,) = leaves.current("ling")
    for person, refusal in ((PROF, NotAllowed), (BOB, Nothing)):
        with pytest.raises(refusal):
            leaves.give(person, "ling", asked.id, 10)
    with pytest.raises(NotAllowed):
        leaves.enter(PROF, "ling", asked.id)
    with pytest.raises(NotNow, match="already"):
        leaves.ask(PROF, "ling", "ada", "again")
    assert leaves.given() == []
    leaves.give(ADA, "ling", asked.id, 10)
    assert leaves.enter(PROF, "ling", asked.id).student == "ada"
    assert [one.instructor for one in leaves.given()] == ["prof"]
    now[0] += 601
    assert leaves.given() == []
    with pytest.raises(NotAllowed):
        leaves.enter(PROF, "ling", asked.id)
    noted = [line["act"] for line in desk.trail.lines("ling")]
    assert noted[-3:] == ["course.help-asked", "course.help-given", "course.help-entered"]


def test_leave_ends_by_word_by_role_and_by_time(desk: Desk, now: list[float]) -> None:
    leaves = desk.help_leave
    leaves.offer(ADA, "ling", "prof", 30)
    (given,) = leaves.current("ling")
    leaves.end(ADA, "ling", given.id)
    assert leaves.current("ling") == []
    leaves.offer(BOB, "ling", "prof", 30)
    desk.enrolment.put("ling", [Entry("tutor", "", Role.INSTRUCTOR)], "page", "prof")
    desk.enrolment.remove("ling", "prof", PROF)
    assert leaves.given() == []  # no instructor any more
    leaves.ask(Person("tutor"), "ling", "ada", "why")
    now[0] += 25 * _HOUR
    assert leaves.current("ling") == []  # asked a day ago, not answered


@pytest.mark.parametrize("minutes", [0, -1, 121, 1e9])
def test_leave_is_short(desk: Desk, minutes: float) -> None:
    with pytest.raises(Unusable):
        desk.help_leave.offer(ADA, "ling", "prof", minutes)


def test_nobody_else_is_let_in_or_asked(desk: Desk) -> None:
    for act in (
        lambda: desk.help_leave.offer(ADA, "ling", "bob", 10),
        lambda: desk.help_leave.offer(PROF, "ling", "prof", 10),
        lambda: desk.help_leave.ask(ADA, "ling", "bob", "why"),
        lambda: desk.help_leave.ask(PROF, "ling", "eve", "why"),
        lambda: desk.help_leave.ask(PROF, "ling", "ada", " "),
    ):
        with pytest.raises(CourseError):
            act()
    assert desk.help_leave.current("ling") == []
