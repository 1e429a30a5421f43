"""Assignments: what students get, what they hand in, what comes back; hostile folders; nothing is overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from edif_courses.desk import Desk, open_desk
from edif_courses.errors import CourseError, NotAllowed, Nothing, NotNow, TooLarge, Unusable
from edif_courses.nbgrader_format import points, read_notebook, student_version
from edif_courses.records import Person, Role
from edif_courses.roster_file import Entry
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation

OPERATOR, PROF, ADA = Person("admin", operator=True), Person("prof"), Person("ada")


def code(source: str, **nbgrader: Any) -> dict[str, Any]:
    metadata = {"nbgrader": nbgrader} if nbgrader else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": [{"x": 1}], "execution_count": 3}


def notebook(*cells: dict[str, Any]) -> bytes:
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": list(cells)}).encode()


SOLVED = notebook(
    code("x = 1\n    ### BEGIN SOLUTION\n    y = 2\n    ### END SOLUTION\nz = 3", grade_id="a", solution=True),
    code("assert y\n### BEGIN HIDDEN TESTS\nassert y == 2\n### END HIDDEN TESTS\n", grade_id="b", grade=True, points=3),
    {"cell_type": "markdown", "metadata": {"nbgrader": {"grade_id": "c", "solution": True, "grade": True, "points": 2}},
     "source": ["secret ", "answer"]},
    code("plain = 'stays'"),
)  # fmt: skip


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def desk(tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    settings = CourseSettings(file_bytes=1 << 20, submission_bytes=2 << 20, submission_files=5, submissions_kept=4)
    made = open_desk(Installation(home=tmp_path), settings, lambda: now[0])
    made.enrolment.create(OPERATOR, "ling", "Linguistics", 500, 5000)
    people = [Entry("prof", "", Role.INSTRUCTOR), Entry("ada", "Ada", Role.STUDENT), Entry("bob", "", Role.STUDENT)]
    made.enrolment.put("ling", people, "csv", "admin")
    made.coursework.set(PROF, "ling", "w1", "Week 1", 2000, 3000)
    yield made
    made.close()


@pytest.fixture
def work(desk: Desk) -> Path:
    """Ada's folder, with the released notebook in it."""
    desk.coursework.release(PROF, "ling", "w1", {"w1.ipynb": SOLVED, "data.csv": b"1,2\n"})
    assert desk.coursework.fetch(ADA, "ling", "w1") == ["data.csv", "w1.ipynb"]
    return desk.workspace.of("ling") / "work" / "ada" / "w1"


def test_solutions_hidden_tests_and_outputs_do_not_reach_students() -> None:
    made = student_version(read_notebook(SOLVED, "n"), "n")
    sources = [cell["source"] for cell in made["cells"]]
    assert sources[0] == "x = 1\n    # YOUR CODE HERE\n    raise NotImplementedError()\nz = 3"
    assert sources[1] == "assert y\n"
    assert sources[2] == "YOUR ANSWER HERE"
    assert sources[3] == "plain = 'stays'"
    assert made["cells"][1]["metadata"] == {
        "nbgrader": {"grade_id": "b", "grade": True, "points": 3},
        "editable": False,
        "deletable": False,
    }
    assert all(cell["outputs"] == [] for cell in made["cells"] if cell["cell_type"] == "code")
    assert points(made) == 5
    assert student_version(made, "n") == made  # what nbgrader has made ready is released as it is


@pytest.mark.parametrize(
    "content",
    [
        b"no json",
        b"[" * 100_000,
        b"{}",
        notebook()[:-1],
        b'{"nbformat": 3, "cells": []}',
        b'{"nbformat": 4, "cells": [1]}',
        notebook(code("", grade_id="a"), code("", grade_id="a")),
    ],
)
def test_what_is_no_notebook_is_refused(content: bytes) -> None:
    with pytest.raises(Unusable, match=r"n\.ipynb"):
        read_notebook(content, "n.ipynb")


def test_a_mark_without_an_end_releases_nothing(desk: Desk) -> None:
    with pytest.raises(Unusable, match="cell 1"):
        desk.coursework.release(PROF, "ling", "w1", {"w1.ipynb": notebook(code("### BEGIN SOLUTION\nx = 1"))})
    assert desk.coursework.assignment("ling", "w1", Role.INSTRUCTOR).release == 0
    with pytest.raises(Nothing):
        desk.coursework.fetch(ADA, "ling", "w1")


@pytest.mark.parametrize("name", ["../w.ipynb", "a/b.ipynb", ".hidden.ipynb", "x\n.ipynb", "..", "x" * 201 + ".ipynb"])
def test_names_that_lead_elsewhere_are_refused(desk: Desk, name: str) -> None:
    with pytest.raises(Unusable):
        desk.coursework.release(PROF, "ling", "w1", {name: SOLVED})


def test_fetching_again_keeps_what_the_student_did(desk: Desk, work: Path) -> None:
    (work / "w1.ipynb").write_bytes(notebook(code("mine")))
    (work / "data.csv").unlink()
    assert desk.coursework.fetch(ADA, "ling", "w1") == ["data.csv", "w1 (release 1).ipynb"]
    assert b"mine" in (work / "w1.ipynb").read_bytes()
    assert desk.coursework.fetch(ADA, "ling", "w1") == []
    desk.coursework.release(PROF, "ling", "w1", {"w1.ipynb": notebook(code("corrected"))})
    assert desk.coursework.fetch(ADA, "ling", "w1") == ["w1 (release 2).ipynb"]


def test_submissions_are_copies_that_stay_and_late_ones_say_so(desk: Desk, work: Path, now: list[float]) -> None:
    first = desk.coursework.submit(ADA, "ling", "w1")
    assert first.late_s == 0
    (work / "w1.ipynb").write_bytes(notebook(code("changed")))
    now[0] = 2060.0
    second = desk.coursework.submit(ADA, "ling", "w1")
    assert second.late_s == 60
    assert b"changed" not in (desk.coursework.folder_of(first) / "w1.ipynb").read_bytes()
    assert b"changed" in (desk.coursework.folder_of(second) / "w1.ipynb").read_bytes()
    assert desk.coursework.hand_ins.last("ling", "w1") == {"ada": second}
    now[0] = 3000.0
    with pytest.raises(NotNow, match="late work too"):
        desk.coursework.submit(ADA, "ling", "w1")
    now[0] = 5000.0
    with pytest.raises(NotNow, match="is over"):
        desk.coursework.submit(ADA, "ling", "w1")


def test_only_students_of_the_course_hand_in(desk: Desk, work: Path) -> None:
    with pytest.raises(NotAllowed):
        desk.coursework.submit(PROF, "ling", "w1")
    with pytest.raises(Nothing):
        desk.coursework.submit(Person("eve"), "ling", "w1")
    with pytest.raises(Nothing, match="not fetched"):
        desk.coursework.submit(Person("bob"), "ling", "w1")


def _link(work: Path) -> None:
    (work / "stolen.ipynb").symlink_to("/etc/passwd")


def _linked_folder(work: Path) -> None:
    (work / "inner").symlink_to("/etc")


def _pipe(work: Path) -> None:
    os.mkfifo(work / "pipe.ipynb")


def _large(work: Path) -> None:
    (work / "large.bin").write_bytes(b"x" * ((1 << 20) + 1))


def _large_together(work: Path) -> None:
    for name in "abc":
        (work / name).write_bytes(b"x" * (1 << 20))


def _many(work: Path) -> None:
    for number in range(5):
        (work / f"{number}.txt").write_text("x")


def _deep(work: Path) -> None:
    (work / "/".join("abcdefghij")).mkdir(parents=True)


def _broken(work: Path) -> None:
    (work / "w1.ipynb").write_text("not a notebook")


def _nothing(work: Path) -> None:
    (work / "w1.ipynb").unlink()


@pytest.mark.parametrize(
    ("prepare", "refusal"),
    [
        (_link, "is a link"),
        (_linked_folder, "is a link"),
        (_pipe, "neither a file nor a folder"),
        (_large, "too large"),
        (_large_together, "too large"),
        (_many, "more than 5 files"),
        (_deep, "too deep"),
        (_broken, "not a notebook"),
        (_nothing, "no notebook"),
    ],
)
def test_hostile_folders_are_refused_and_leave_nothing(desk: Desk, work: Path, prepare: Any, refusal: str) -> None:
    prepare(work)
    with pytest.raises(CourseError, match=refusal):
        desk.coursework.submit(ADA, "ling", "w1")
    assert desk.coursework.hand_ins.last("ling", "w1") == {}
    assert list((desk.workspace.of("ling") / "submissions" / "ada" / "w1").iterdir()) == []


def test_a_folder_that_is_a_link_leads_nowhere(desk: Desk, work: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "w1.ipynb").write_bytes(SOLVED)
    work.rename(work.with_name("away"))
    work.symlink_to(secret)
    with pytest.raises(Unusable, match="something else"):
        desk.coursework.submit(ADA, "ling", "w1")
    with pytest.raises(Unusable, match="something else"):
        desk.coursework.fetch(ADA, "ling", "w1")
    assert [file.name for file in secret.iterdir()] == ["w1.ipynb"]


def test_a_student_hands_in_a_bounded_number_of_times(desk: Desk, work: Path, now: list[float]) -> None:
    for _ in range(4):
        now[0] += 1
        desk.coursework.submit(ADA, "ling", "w1")
    with pytest.raises(NotNow, match="4 times"):
        desk.coursework.submit(ADA, "ling", "w1")


def test_sent_files_are_handed_in_as_those_of_the_folder(desk: Desk, work: Path) -> None:
    done = desk.coursework.submit(ADA, "ling", "w1", {"own.ipynb": notebook(code("x"))})
    assert [file.name for file in desk.coursework.folder_of(done).iterdir()] == ["own.ipynb"]
    with pytest.raises(TooLarge):
        desk.coursework.submit(ADA, "ling", "w1", {"own.ipynb": notebook(code("x" * (1 << 20)))})
    with pytest.raises(Unusable):
        desk.coursework.submit(ADA, "ling", "w1", {"../own.ipynb": notebook(code("x"))})


def test_collecting_has_nbgraders_layout_and_keeps_what_it_replaces(desk: Desk, work: Path, now: list[float]) -> None:
    first = desk.coursework.submit(ADA, "ling", "w1")
    assert desk.coursework.collect(PROF, "ling", "w1") == 1
    at = desk.workspace.of("ling") / "grading" / "submitted" / "ada" / "w1"
    assert (at / "timestamp.txt").read_text() == "1970-01-01 00:16:40.000000 UTC"
    (at / "w1.ipynb").write_text("graded")
    now[0] += 1
    desk.coursework.submit(ADA, "ling", "w1")
    assert desk.coursework.collect(PROF, "ling", "w1") == 1
    assert desk.coursework.collect(PROF, "ling", "w1") == 0
    assert (at / "w1.ipynb").read_bytes() == (work / "w1.ipynb").read_bytes()
    earlier = desk.workspace.of("ling") / "grading" / "earlier" / "ada" / f"w1@{first.stamp}"
    assert (earlier / "w1.ipynb").read_text() == "graded"


def test_feedback_comes_back_once_by_hand_or_by_folder(desk: Desk, work: Path, now: list[float]) -> None:
    with pytest.raises(Nothing, match="handed in"):
        desk.coursework.answer(PROF, "ling", "w1", "ada", {}, 1, "")
    done = desk.coursework.submit(ADA, "ling", "w1")
    with pytest.raises(Unusable, match="needs"):
        desk.coursework.answer(PROF, "ling", "w1", "ada", {}, None, " ")
    by_hand = desk.coursework.answer(PROF, "ling", "w1", "ada", {}, 4.5, "good")
    assert by_hand.submission == done.stamp
    folder = desk.workspace.of("ling") / "grading" / "feedback" / "ada" / "w1"
    folder.mkdir(parents=True)
    (folder / "w1.html").write_text("<p>well</p>")
    now[0] += 1
    assert [one.account for one in desk.coursework.answer_folder(PROF, "ling", "w1")] == ["ada"]
    assert desk.coursework.answer_folder(PROF, "ling", "w1") == []
    assert len(desk.coursework.hand_ins.feedback("ling", "w1", "ada")) == 2
    with pytest.raises(NotAllowed):
        desk.coursework.answer(ADA, "ling", "w1", "ada", {}, 5, "")
