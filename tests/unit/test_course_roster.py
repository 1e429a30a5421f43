"""Rosters as spreadsheets and hostile people write them; who is in a course, and by whose word."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_courses.desk import Desk, open_desk
from edif_courses.errors import CourseError, NotAllowed, Nothing, NotNow, TooLarge, Unusable
from edif_courses.records import Person, Role
from edif_courses.register import Register
from edif_courses.roster_file import Entry, read_roster
from edif_courses.settings import CourseSettings
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation

OPERATOR = Person("admin", operator=True)
PROF, ADA = Person("prof"), Person("ada")


class Moment:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Moment:
    return Moment()


@pytest.fixture
def desk(tmp_path: Path, clock: Moment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    made = open_desk(Installation(home=tmp_path), CourseSettings(), clock)
    made.enrolment.create(OPERATOR, "ling", "Linguistics", 500, 5000)
    made.enrolment.put("ling", [Entry("prof", "P", Role.INSTRUCTOR), Entry("ada", "Ada", Role.STUDENT)], "csv", "admin")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"account\nada\n", [("ada", "", "student")]),
        (b"\xef\xbb\xbfAccount;Name;Role\r\nADA;Lovelace, Ada;Student\r\n\r\n", [("ada", "Lovelace, Ada", "student")]),
        ("username\tFirst name\tLast name\nada\tÄda\tL\n".encode("cp1252"), [("ada", "Äda L", "student")]),
        ("account,role\nprof,Teacher\n".encode("utf-16"), [("prof", "", "instructor")]),
        (b'name,account\n"O""Hara, X",x1\n', [("x1", 'O"Hara, X', "student")]),
    ],
)
def test_what_spreadsheets_save_is_understood(content: bytes, found: list[tuple[str, str, str]]) -> None:
    read = read_roster(content)
    assert read.problems == []
    assert [(e.account, e.name, e.role) for e in read.entries] == found


def test_every_wrong_line_is_named() -> None:
    lines = ["account,name,role", "ada,Ada,student", "../etc,x,student", "bob,B,king", "ada,again,student"]
    lines += ["room-ling,x,student", "eve,\u202eevil,student", f"long,{'x' * 101},student", ",no account,"]
    read = read_roster("\n".join(lines).encode())
    assert [problem.partition(":")[0] for problem in read.problems] == [f"Line {n}" for n in range(3, 10)]


@pytest.mark.parametrize(
    ("content", "refusal"),
    [
        (b"", Unusable),
        (b"name\nAda\n", Unusable),
        (b"account\n", Unusable),
        (b"PK\x03\x04\0\0\0", Unusable),
        (b'account\n"ada', Unusable),
        (b"account\n" + b"x" * 2_000_000, TooLarge),
        (b"account\n" + b"a\n" * 6000, TooLarge),
    ],
)
def test_what_is_no_roster_is_refused_in_a_sentence(content: bytes, refusal: type[CourseError]) -> None:
    with pytest.raises(refusal, match=r"[.:)]"):
        read_roster(content)


@given(st.binary(max_size=300))
def test_no_file_breaks_the_reader(content: bytes) -> None:
    with contextlib.suppress(CourseError):  # a refusal with its sentence is as good as a roster
        read_roster(b"account,name\n" + content)


def test_a_roster_adds_changes_and_on_wish_removes(desk: Desk) -> None:
    change = desk.enrolment.put("ling", read_roster(b"account,name\nbob,Bob\nada,Ada L\n").entries, "csv", "prof")
    assert (change.added, change.changed, change.removed) == (["bob"], ["ada"], [])
    change = desk.enrolment.put("ling", [Entry("bob", "", Role.STUDENT)], "csv", "prof", only_these=True)
    assert (change.added, change.changed, change.removed) == ([], [], ["ada"])
    assert [m.account for m in desk.enrolment.members("ling")] == ["prof", "bob"]  # no instructor leaves by a roster
    assert desk.enrolment.role("ling", ADA) is None
    assert desk.enrolment.gone("ling") == {"ada"}


def test_groups_of_the_university_let_in_unless_the_roster_says_no(desk: Desk) -> None:
    eve = Person("eve", frozenset({"course:ling:student", "course:other:instructor", "course:ling:king"}))
    assert desk.enrolment.role("ling", eve) is Role.STUDENT
    assert desk.enrolment.role("ling", Person("ada", frozenset({"course:ling:instructor"}))) is Role.INSTRUCTOR
    desk.enrolment.remove("ling", "ada", PROF)
    assert desk.enrolment.role("ling", Person("ada", frozenset({"course:ling:instructor"}))) is None


def test_a_course_is_for_its_people_and_in_its_time(desk: Desk, clock: Moment) -> None:
    with pytest.raises(Nothing, match="for you"):
        desk.enrolment.enter("ling", Person("eve"))
    with pytest.raises(Nothing, match="for you"):  # the same words: nobody learns which courses there are
        desk.enrolment.enter("nothing", Person("eve"))
    with pytest.raises(NotAllowed):
        desk.enrolment.enter("ling", ADA, instructor=True)
    clock.at = 100
    with pytest.raises(NotNow, match="not begun"):
        desk.enrolment.enter("ling", ADA)
    assert desk.enrolment.enter("ling", PROF)[1] is Role.INSTRUCTOR


def test_the_last_instructor_stays(desk: Desk) -> None:
    with pytest.raises(NotNow, match="only instructor"):
        desk.enrolment.remove("ling", "prof", PROF)
    desk.enrolment.put("ling", [Entry("tutor", "", Role.INSTRUCTOR)], "page", "prof")
    desk.enrolment.remove("ling", "prof", PROF)
    assert desk.enrolment.role("ling", PROF) is None


def test_courses_are_made_by_those_who_may(desk: Desk) -> None:
    with pytest.raises(NotAllowed):
        desk.enrolment.create(ADA, "mine", "Mine", 0, 1)
    for id in ("../x", "Ling", "", "a" * 32, "-x", "a.b"):
        with pytest.raises(Unusable):
            desk.enrolment.create(OPERATOR, id, "Title", 0, 1)
    with pytest.raises(NotNow, match="already"):
        desk.enrolment.create(OPERATOR, "ling", "Title", 0, 1)
    with pytest.raises(Unusable, match="end after"):
        desk.enrolment.create(OPERATOR, "late", "Title", 1, 1)


def test_a_link_lets_in_until_it_is_closed_and_nobody_back_who_was_removed(desk: Desk) -> None:
    old = desk.enrolment.open_link("ling", PROF, open_it=True)
    code = desk.enrolment.open_link("ling", PROF, open_it=True)
    assert old
    assert code
    with pytest.raises(Nothing):
        desk.enrolment.join(old, Person("eve"), "")
    desk.enrolment.join(code, Person("eve"), "Eve")
    assert desk.enrolment.role("ling", Person("eve")) is Role.STUDENT
    desk.enrolment.remove("ling", "eve", PROF)
    with pytest.raises(NotAllowed, match="taken off"):
        desk.enrolment.join(code, Person("eve"), "Eve")
    desk.enrolment.open_link("ling", PROF, open_it=False)
    with pytest.raises(Nothing):
        desk.enrolment.join(code, Person("bob"), "")


def test_every_change_is_noted_with_who_and_what_in_the_one_log(desk: Desk, tmp_path: Path) -> None:
    AuditLog(tmp_path / "audit").note("admin", "server.stop", "ling", via="hub")  # a person of the same name
    desk.enrolment.remove("ling", "ada", PROF)
    lines = list(desk.trail.lines("ling"))
    assert [line["act"] for line in lines] == ["course.made", "course.roster", "course.member-removed"]
    assert (lines[-1]["by"], lines[-1]["via"], lines[-1]["account"]) == ("prof", "page", "ada")
    many = [f"student-{number:03}" for number in range(300)]
    desk.enrolment.put("ling", [Entry(name, "", Role.STUDENT) for name in many], "csv", "prof")
    [newest] = AuditLog(tmp_path / "audit").newest(1, by="prof", act="course.")
    assert newest["added"] == many  # who is in a list is never left out


def test_a_command_is_noted_under_the_account_that_typed_it(desk: Desk, tmp_path: Path) -> None:
    typed = open_desk(Installation(home=tmp_path), CourseSettings(), lambda: 1000.0, typed_by="account root")
    typed.enrolment.remove("ling", "ada", OPERATOR)
    typed.close()
    [newest] = AuditLog(tmp_path / "audit").newest(1)
    assert (newest["by"], newest["via"], newest["on"]) == ("account root", "command", "ling")


def test_a_register_of_a_newer_edif_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "courses.sqlite"
    register = Register(path)
    register.write("PRAGMA user_version = 999", {})
    register.close()
    with pytest.raises(NotNow, match="newer"):
        Register(path)
    assert path.stat().st_mode & 0o077 == 0
