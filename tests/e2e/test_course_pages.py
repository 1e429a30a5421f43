"""A week of a course in two browsers: roster, assignment, work, submission, feedback, limits; looked at by axe."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.course_hub import ROOT, CourseHub
from tests.e2e.password_login import log_in
from tests.e2e.test_page import looked_at

if TYPE_CHECKING:
    from collections.abc import Callable

_CELLS = [
    ("markdown", {}, "# Week 1\nWhich token does the model expect?"),
    (
        "code",
        {"nbgrader": {"grade_id": "a", "solution": True, "grade": True, "points": 5, "schema_version": 3}},
        "### BEGIN SOLUTION\nanswer = ' Paris'\n### END SOLUTION\n",
    ),
]
NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "nbformat_minor": 4,
        "metadata": {"kernelspec": {"name": "edif", "display_name": "eDIF", "language": "python"}},
        "cells": [
            {"cell_type": kind, "metadata": metadata, "source": source}
            | ({"outputs": [], "execution_count": None} if kind == "code" else {})
            for kind, metadata, source in _CELLS
        ],
    }
)


@pytest.fixture
def browser_of(courses: CourseHub, page: Page) -> Iterator[Callable[[str], Page]]:
    """A page of somebody's own browser, logged in."""
    browser = page.context.browser
    assert isinstance(browser, Browser)
    opened = []

    def of(user: str, *, scripts: bool = True) -> Page:
        context = browser.new_context(viewport={"width": 1180, "height": 900}, java_script_enabled=scripts)
        opened.append(context)
        shown = context.new_page()
        shown.set_default_timeout(120_000)
        log_in(shown, courses.installation, user, ROOT)
        return shown

    yield of
    for context in opened:
        context.close()


def test_a_week_of_a_course(
    courses: CourseHub, browser_of: Callable[..., Page], screenshots: Path, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    dates = ("--from", str(today - timedelta(days=1)), "--until", str(today + timedelta(days=120)))
    courses.edif(
        "course", "new", "inside", "--title", "Looking inside language models", *dates, "--instructor", "noether"
    )
    roster = tmp_path / "roster.csv"
    roster.write_text("account;name\nhopper;Grace Hopper\nturing;Alan Turing\n")
    notebook = tmp_path / "week1.ipynb"
    notebook.write_text(NOTEBOOK)

    teacher = browser_of("noether")
    problems: list[str] = []
    teacher.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    _prepare(teacher, roster, notebook, screenshots)
    student = browser_of("hopper", scripts=False)  # all of it works without a script
    _hand_in(student)
    _answer(teacher, screenshots)
    student.reload()
    expect(student.locator("main")).to_contain_text("4.5 of 5 points")
    looking = browser_of("hopper")
    looking.goto(student.url)
    looked_at(looking, screenshots, "course_student")
    looking.goto(f"{courses.installation.url('proxy')}{ROOT}inside/")
    looked_at(looking, screenshots, "course_page")
    _limits(courses, teacher, screenshots)
    assert problems == []  # the policy blocks nothing of our own


def _prepare(teacher: Page, roster: Path, notebook: Path, screenshots: Path) -> None:
    due = datetime.now(UTC) + timedelta(days=7)
    teacher.get_by_role("link", name="Looking inside language models").click()
    teacher.get_by_role("link", name="Roster").click()
    teacher.locator("input[name=file]").set_input_files(roster)
    teacher.get_by_role("button", name="Take it over").click()
    expect(teacher.get_by_role("status")).to_contain_text("2 added")
    looked_at(teacher, screenshots, "course_roster")

    teacher.get_by_role("link", name="Looking inside language models").click()
    teacher.get_by_text("A new assignment").click()
    form = teacher.locator("form").filter(has_text="Make the assignment")
    form.get_by_label("Title").fill("Week 1")
    form.get_by_label("Short name").fill("week-1")
    form.get_by_label("Due (UTC)").fill(f"{due:%Y-%m-%dT%H:%M}")
    form.get_by_role("button").click()
    teacher.get_by_label("Notebook, and files it needs").set_input_files(notebook)
    teacher.get_by_role("button", name="Release", exact=True).click()
    expect(teacher.get_by_role("status")).to_contain_text("Release 1 of Week 1 is out")


def _hand_in(student: Page) -> None:
    student.get_by_role("link", name="Looking inside language models").click()
    student.get_by_role("link", name="Week 1").click()
    student.get_by_role("button", name="Fetch").click()
    expect(student.get_by_role("status")).to_contain_text("courses/inside/work/week-1: week1.ipynb")
    student.get_by_role("button", name="Hand in", exact=True).click()
    expect(student.get_by_role("status")).to_contain_text("Handed in, in time: 1 file")


def _answer(teacher: Page, screenshots: Path) -> None:
    teacher.reload()
    expect(teacher.locator("main")).to_contain_text("Handed in: 1 of 2")
    teacher.locator("select[name=account]").select_option("hopper")
    teacher.locator("input[name=score]").fill("4,5")
    teacher.locator("textarea").fill("Well seen. Look at the space before the word again.")
    teacher.get_by_role("button", name="Return it").click()
    expect(teacher.get_by_role("status")).to_contain_text("Returned to hopper")
    looked_at(teacher, screenshots, "course_assignment")


def _limits(courses: CourseHub, teacher: Page, screenshots: Path) -> None:
    teacher.goto(f"{courses.installation.url('proxy')}{ROOT}inside/fabric")
    form = teacher.locator("form").filter(has_text="Plan it")
    form.get_by_label("Begins (UTC)").fill(f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M}")
    form.get_by_role("button").click()
    expect(teacher.get_by_role("status")).to_contain_text("The lab hour is planned")
    looked_at(teacher, screenshots, "course_fabric")
