"""The pages of courses in this process, without hub and socket: every one is shown, every form is taken or refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from edif_backend.gateway.identity import User
from edif_backend.gateway.signing_in import Visitor
from edif_courses import course_app
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation

ROOT = "/services/courses/"
PROOF = "p" * 64
NOTEBOOK = json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}).encode()
CATALOGUE = '[models."edif/tiny-gpt2"]\ntitle = "Random GPT-2"\nsource = "tiny"\npurpose = "test"\n'


class Login:
    """Whoever the request says, without a hub."""

    async def visitor(self, connection: Any) -> Visitor:
        name = connection.headers["x-user"]
        return Visitor(User(name, frozenset(), name == "admin"), PROOF)


class Hub:
    """A hub that does everything at once."""

    def __init__(self) -> None:
        self.room = "off"

    def ring(self) -> bool:
        return True

    def room_state(self, room: str) -> str:
        return self.room

    def start_room(self, room: str) -> None:
        self.room = "on"

    def stop_room(self, room: str) -> None:
        self.room = "off"

    def close(self) -> None:
        pass


Send = Callable[..., Awaitable[str]]


@pytest.fixture
async def send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Send]:
    """Sends a form as somebody, or gets a page; gives the text of what is shown, with the status before it."""
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    monkeypatch.setattr(course_app, "HubSide", lambda installation: Hub())
    (tmp_path / "models.toml").write_text(CATALOGUE)
    app = course_app.create_app(Installation(home=tmp_path), CourseSettings(grants={"large": "Large <models>"}))
    async with app.router.lifespan_context(app):
        app.state.parts = dataclasses.replace(app.state.parts, signing_in=Login())
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", follow_redirects=True) as client:

            async def through(user: str, path: str, form: dict[str, str] | None = None, files: Any = None) -> str:
                headers = {"x-user": user}
                if form is None and files is None:
                    answer = await client.get(f"{ROOT}{path}", headers=headers)
                else:
                    sent = {"proof": PROOF, **(form or {})}
                    answer = await client.post(f"{ROOT}{path}", headers=headers, data=sent, files=files)
                return f"{answer.status_code} {answer.text}"

            course = {
                "title": "T <b>",
                "id": "ling",
                "instructor": "prof",
            }
            made = await through("admin", "", {**course, **_running()})
            assert "The course T &lt;b&gt; is there." in made
            assert "2 added" in await through("prof", "ling/roster", {}, {"file": ("r.csv", b"account\nada\nbob\n")})
            yield through


def _running() -> dict[str, str]:
    from datetime import UTC, datetime, timedelta

    today = datetime.now(UTC).date()
    return {"starts": str(today - timedelta(days=2)), "ends": str(today + timedelta(days=200))}


async def test_the_room_is_started_by_members_and_stopped_by_instructors(send: Send) -> None:
    assert "Start the room" in await send("ada", "ling/")
    assert "The room is starting" in await send("ada", "ling/room", {"do": "start"})
    shown = await send("ada", "ling/")
    assert "/user/room-ling/lab" in shown
    assert "Stop it for everybody" not in shown
    assert (await send("ada", "ling/room", {"do": "stop"})).startswith("403")
    assert "Stop it for everybody" in await send("prof", "ling/")
    assert "The room is stopped" in await send("prof", "ling/room", {"do": "stop"})


async def test_an_assignment_in_the_words_of_its_pages(send: Send) -> None:
    page = "ling/assignments/w1"
    assert "title and deadlines are set" in await send("prof", "ling/assignments", {"id": "w1", "title": "W1"})
    assert (await send("ada", page)).startswith("404")
    assert "needs a notebook" in await send("prof", f"{page}/release", {}, [("files", ("d.csv", b"1"))])
    assert "Release 1 of W1" in await send("prof", f"{page}/release", {}, [("files", ("w.ipynb", NOTEBOOK))])
    assert "have not fetched" in await send("ada", f"{page}/submit", {})
    assert "courses/ling/work/w1: w.ipynb" in await send("ada", f"{page}/fetch", {})
    assert "You have all of it already" in await send("ada", f"{page}/fetch", {})
    assert "in time: 1 file" in await send("ada", f"{page}/submit", {})
    assert "Choose the files first" in await send("ada", f"{page}/submit", {"how": "files"})
    twice = [("files", ("x.ipynb", NOTEBOOK)), ("files", ("x.ipynb", NOTEBOOK))]
    assert "Two files are called" in await send("ada", f"{page}/submit", {"how": "files"}, twice)
    overview = await send("prof", page)
    assert "Handed in: 1 of 2" in overview
    handed_in = re.search(rf'"{ROOT}([^"]*submissions/ada/[^"]*zip)"', overview)
    assert handed_in
    for user, status in (("prof", "200"), ("ada", "200"), ("bob", "404")):
        assert (await send(user, handed_in[1])).startswith(status)
    assert "no number" in await send("prof", f"{page}/feedback", {"account": "ada", "score": "many"})
    assert "Returned to ada" in await send("prof", f"{page}/feedback", {"account": "ada", "remark": "<i>"})
    assert "&lt;i&gt;" in await send("ada", page)


async def test_limits_lab_hours_and_models(send: Send) -> None:
    assert "at most 4" in await send("prof", "ling/fabric", {"what": "limits", "who": "students", "weight": "9"})
    assert "The limits are set" in await send("prof", "ling/fabric", {"what": "limits", "who": "room", "weight": "2"})
    assert "Say when it begins" in await send("prof", "ling/fabric", {"what": "lab", "hours": "1"})
    assert "no date" in await send("prof", "ling/fabric", {"what": "lab", "starts": "soon"})
    assert "Opened as chosen" in await send("prof", "ling/fabric", {"what": "models", "group-large": "on"})
    assert "not left that" in await send("prof", "ling/fabric", {"what": "models", "group-admins": "on"})
    shown = await send("prof", "ling/fabric")
    assert re.search(r'name="group-large" checked> Large &lt;models&gt;', shown)
    assert "edif/tiny-gpt2" in shown


async def test_a_roster_by_hand_and_by_link(send: Send) -> None:
    assert "Line 2" in await send("prof", "ling/roster", {}, {"file": ("r.csv", b"account\n../x\n")})
    assert "eve is in the course as student" in await send("prof", "ling/members", {"account": "Eve"})
    assert "what they handed in is kept" in await send("prof", "ling/members", {"remove": "eve"})
    assert "new link" in await send("prof", "ling/link", {"open": "yes"})
    code = re.search(r"join/([\w-]+)", await send("prof", "ling/roster"))
    assert code
    assert "Join as a student" in await send("newton", f"join/{code[1]}")
    assert "Welcome to" in await send("newton", f"join/{code[1]}", {"name": "Isaac"})
    assert "taken off the roster" in await send("eve", f"join/{code[1]}", {})


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("nope/", "404"),
        ("nope/x/y", "404"),
        ("ling/assignments/../../x", "404"),
        ("ling/assignments/w1/submissions/ada/..%2f..%2fx.zip", "404"),
        ("ling/assignments/w1/material/ada/x.zip", "404"),
        ("join/none", "404"),
        ("lti/arrive/none", "409"),
        ("lti/login?iss=https://nobody", "400"),
        ("%00/", "404"),
    ],
)
async def test_addresses_that_lead_nowhere_say_so(send: Send, path: str, status: str) -> None:
    shown = await send("ada", path)
    assert shown.startswith(status)
    assert "That did not work" in shown
