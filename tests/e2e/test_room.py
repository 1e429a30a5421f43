"""A course's room: two people write in one notebook at the same time; elsewhere shared editing is off."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.course_hub import ROOT, CourseHub
from tests.e2e.test_course_pages import browser_of as browser_of  # noqa: PLC0414 (a fixture)
from tests.hub_alone import until

_EMPTY = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "edif", "display_name": "eDIF", "language": "python"}},
    "cells": [
        {"id": "a1", "cell_type": "code", "metadata": {}, "source": "", "outputs": [], "execution_count": None},
    ],
}


def _enter(courses: CourseHub, page: Page, room: str, path: str) -> None:
    """Into the room; the hub asks each person once whether the room may know who they are."""
    page.goto(f"{courses.installation.url('proxy')}/user/{room}/lab/tree/{path}")
    authorize = page.get_by_role("button", name="Authorize")
    if "/oauth2/authorize" in page.url:
        authorize.click()
    page.wait_for_selector(".jp-Notebook .jp-Cell .cm-content")


def test_two_write_in_one_notebook(
    courses: CourseHub, browser_of: Callable[..., Page], screenshots: Path, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    dates = ("--from", str(today - timedelta(days=1)), "--until", str(today + timedelta(days=9)))
    courses.edif("course", "new", "duet", "--title", "Duet", *dates, "--instructor", "clara")
    (tmp_path / "roster.csv").write_text("account;role\nfanny;student\nfelix;student\nrobert;instructor\n")
    courses.edif("course", "roster", "duet", str(tmp_path / "roster.csv"))
    shared = courses.installation.courses_dir / "duet" / "shared"
    (shared / "together.ipynb").write_text(json.dumps(_EMPTY))

    first = browser_of("fanny")
    first.get_by_role("link", name="Duet").click()
    first.get_by_role("button", name="Start the room").click()
    expect(first.get_by_role("status")).to_contain_text("The room is starting")
    # The hub is asked, not the command: a Python of its own each time, beside a server that starts.
    until(lambda: (courses.hub.server("room-duet") or {}).get("ready"), "the room runs")
    assert courses.edif("course", "room", "duet").strip() == "on"
    first.reload()
    expect(first.get_by_role("button", name="Stop it for everybody")).to_have_count(0)
    second = browser_of("felix")
    second.get_by_role("link", name="Duet").click()  # the first login of all: from here on the hub knows felix
    for page in (first, second):
        _enter(courses, page, "room-duet", "courses/duet/shared/together.ipynb")

    text = ".jp-Notebook .jp-Cell .cm-content"
    first.locator(text).first.click()
    first.keyboard.type("layers = 30")
    expect(second.locator(text).first).to_contain_text("layers = 30")
    second.locator(text).first.click()
    second.keyboard.press("End")
    second.keyboard.type("  # of SmolLM2")
    expect(first.locator(text).first).to_contain_text("layers = 30  # of SmolLM2")
    second.screenshot(path=screenshots / "room.png")
    until(lambda: "layers = 30" in (shared / "together.ipynb").read_text(), "the room saves what was written")

    key = _environment_key(courses, "room-duet")
    assert key  # of its own: traces in the room count as the room's
    outside = browser_of("mallory")
    answer = outside.goto(f"{courses.installation.url('proxy')}/user/room-duet/lab")
    assert answer is not None
    assert answer.status in {403, 404}

    teacher = browser_of("clara")
    teacher.get_by_role("link", name="Duet").click()
    teacher.get_by_role("button", name="Stop it for everybody").click()
    until(lambda: courses.hub.server("room-duet") is None, "the room is stopped")
    assert courses.edif("course", "room", "duet").strip() == "off"


def _environment_key(courses: CourseHub, account: str) -> list[str]:
    """Notes of the keys that the kernels of a server have."""
    import httpx

    token = courses.installation.secret("hub-admin-token")
    url = f"{courses.installation.url('hub')}/hub/api/users/{account}/tokens"
    found = httpx.get(url, headers={"Authorization": f"token {token}"}, timeout=30).json()["api_tokens"]
    return [key["note"] for key in found if key["scopes"] and "custom:edif:trace" in key["scopes"]]


def test_a_students_own_server_shares_nothing(courses: CourseHub) -> None:
    courses.start_server("solo")
    client = courses.browser("solo").client
    page = client.get("/user/solo/lab").text
    config = json.loads(
        page.partition('id="jupyter-config-data" type="application/json">')[2].partition("</script>")[0]
    )
    assert config.get("disableRTC") is True
    assert ROOT in client.get("/hub/home").text  # the way to the courses
