"""Courses on a real hub behind a real proxy: who sees what, whose forms count, what is in homes and groups."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from tests.course_hub import ROOT, CourseHub
from tests.hub_alone import until
from tests.lti_platform import LearningPlatform, served

NOTEBOOK = json.dumps(
    {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {},
        "cells": [
            {
                "cell_type": "code",
                "metadata": {"nbgrader": {"grade_id": "a", "solution": True, "grade": True, "points": 5}},
                "source": "### BEGIN SOLUTION\nanswer = 42\n### END SOLUTION\n",
                "outputs": [],
                "execution_count": None,
            }
        ],
    }
).encode()
_TODAY = datetime.now(UTC).date()
COURSE = {
    "title": "Inside <models>",
    "id": "ling",
    "starts": str(_TODAY - timedelta(days=1)),
    "ends": str(_TODAY + timedelta(days=300)),
    "instructor": "prof",
}


@pytest.fixture(scope="module")
def hub(courses: CourseHub) -> CourseHub:
    """A hub with a course: prof teaches, ada and bob learn."""
    made = courses.browser("admin").send("", **COURSE)
    assert made.url.path == f"{ROOT}ling/", made.text
    roster = b"account,name\nada,Ada Lovelace\nbob,Bob\n"
    done = courses.browser("prof").send("ling/roster", "ling/", files={"file": ("r.csv", roster)})
    assert "2 added" in done.text
    return courses


def _api(hub: CourseHub, user: str, method: str, path: str, body: Any = None) -> httpx.Response:
    """The contents API of a user's own server, as JupyterLab uses it."""
    client = hub.browser(user).client
    token = client.cookies.get("_xsrf", path=f"/user/{user}/") or ""
    return client.request(method, f"/user/{user}/api/contents/{path}", json=body, headers={"X-XSRFToken": token})


def test_people_see_their_courses_and_strangers_nothing(hub: CourseHub) -> None:
    assert "Inside &lt;models&gt;" in hub.browser("ada").get("").text
    assert "You are in no course yet" in hub.browser("eve").get("").text
    for page in ("ling/", "ling/roster", "ling/assignments/w1", "nothing/"):
        refused = hub.browser("eve").get(page)
        assert refused.status_code == 404, page
        assert "for you" in refused.text
    assert hub.browser("ada").get("ling/roster").status_code == 403
    assert httpx.get(f"{hub.installation.url('proxy')}{ROOT}").status_code == 303  # to the login


def test_a_form_without_its_proof_does_nothing(hub: CourseHub) -> None:
    client = hub.browser("prof").client
    for proof in ({}, {"proof": "0" * 64}):
        refused = client.post(f"{ROOT}ling/members", data={**proof, "account": "eve"})
        assert refused.status_code == 401
        assert "nothing was done" in refused.text
    by_script = client.get(f"{ROOT}ling/", headers={"Sec-Fetch-Mode": "cors"})
    assert by_script.status_code == 403
    assert "<code>eve</code>" not in hub.browser("prof").get("ling/roster").text


def test_students_cannot_do_what_instructors_do(hub: CourseHub) -> None:
    ada = hub.browser("ada")
    sent = {
        "ling/members": {"account": "ada", "role": "instructor"},
        "ling/link": {"open": "yes"},
        "ling/assignments": {"id": "x", "title": "X"},
        "ling/": {"title": "mine"},
        "ling/assignments/w1/release": {},
        "ling/assignments/w1/collect": {},
    }
    for path, fields in sent.items():
        assert ada.send(path, _page_with_a_form(hub), **fields).status_code in {403, 404}, path
    assert hub.browser("eve").get("ling/").status_code == 404


def _page_with_a_form(hub: CourseHub) -> str:
    """A page that shows a student a form, for its proof."""
    code = hub.edif("course", "link", "ling").strip().rpartition("/")[2]
    return f"join/{code}" if "proof" in hub.browser("ada").get(f"join/{code}").text else _assignment(hub)


def _assignment(hub: CourseHub) -> str:
    hub.edif("course", "assign", "ling", "w1", "--title", "Week 1", "--due", COURSE["ends"])
    shown = hub.browser("ada").get("ling/assignments/w1")
    if shown.status_code == 404:
        prof = hub.browser("prof")
        sent = prof.send("ling/assignments/w1/release", "ling/", files={"files": ("w1.ipynb", NOTEBOOK)})
        assert "Release 1" in sent.text
    return "ling/assignments/w1"


def test_a_wrong_roster_names_its_lines_and_changes_nothing(hub: CourseHub) -> None:
    roster = b"account,role\ncarl,student\n../x,student\ndora,queen\n"
    refused = hub.browser("prof").send("ling/roster", "ling/", files={"file": ("r.csv", roster)})
    assert refused.status_code == 400
    assert "Line 3" in refused.text
    assert "Line 4" in refused.text
    assert "carl" not in hub.browser("prof").get("ling/roster").text


def test_an_assignment_goes_out_comes_in_and_is_answered(hub: CourseHub) -> None:
    page = _assignment(hub)
    ada, prof = hub.browser("ada"), hub.browser("prof")
    hub.start_server("ada")
    assert "courses/ling/work/w1: w1.ipynb" in ada.send(f"{page}/fetch", page).text
    mine = _api(hub, "ada", "GET", "courses/ling/work/w1/w1.ipynb").json()
    assert "answer = 42" not in json.dumps(mine["content"])
    mine["content"]["cells"][0]["source"] = "answer = 41"
    saved = _api(hub, "ada", "PUT", "courses/ling/work/w1/w1.ipynb", {**mine, "type": "notebook"})
    assert saved.status_code == 200, saved.text
    assert "in time" in ada.send(f"{page}/submit", page).text

    overview = prof.get(page).text
    assert "Handed in: 1 of 2" in overview
    link = next(part for part in overview.split('"') if part.endswith(".zip"))
    assert prof.client.get(link).content.startswith(b"PK")
    assert hub.browser("bob").client.get(link).status_code == 404
    assert "1 new" in prof.send(f"{page}/collect", page).text
    answered = prof.send(f"{page}/feedback", page, account="ada", score="4,5", remark="Off <by> one.")
    assert "Returned to ada" in answered.text
    shown = ada.get(page).text
    assert "4.5 of 5 points" in shown
    assert "Off &lt;by&gt; one." in shown
    standing = json.loads(hub.edif("course", "standing", "ling", "w1", "--json"))
    assert [(row["account"], row["score"]) for row in standing] == [("ada", 4.5), ("bob", None)]


def test_material_is_read_only_for_students_and_shared_is_everybodys(hub: CourseHub) -> None:
    workspace = hub.installation.courses_dir / "ling"
    (workspace / "material" / "slides.ipynb").write_bytes(NOTEBOOK)
    hub.start_server("ada")
    shown = _api(hub, "ada", "GET", "courses/ling/material/slides.ipynb").json()
    assert shown["writable"] is False
    changed = {**shown, "type": "notebook"}
    for name in ("slides", "new"):  # 500 where jupytext is installed, as for tests: it hands no other on
        refused = _api(hub, "ada", "PUT", f"courses/ling/material/{name}.ipynb", changed)
        assert refused.status_code in {403, 500}
        assert "read-only for you" in refused.text
    assert _api(hub, "ada", "DELETE", "courses/ling/material/slides.ipynb").status_code == 403
    moved = _api(hub, "ada", "PATCH", "courses/ling/material/slides.ipynb", {"path": "courses/ling/shared/s.ipynb"})
    assert moved.status_code == 403
    assert (workspace / "material" / "slides.ipynb").read_bytes() == NOTEBOOK
    note = {"type": "file", "format": "text", "content": "hello"}
    assert _api(hub, "ada", "PUT", "courses/ling/shared/note.txt", note).status_code == 201
    assert (workspace / "shared" / "note.txt").read_text() == "hello"


def test_groups_follow_the_roster_both_ways(hub: CourseHub) -> None:
    assert "course:ling:student" in hub.groups("ada")
    assert "course:ling:instructor" in hub.groups("prof")
    hub.browser("carl")  # has an account from here on
    hub.edif("course", "add", "ling", "carl")
    assert hub.groups("carl") == {"course:ling:student"}
    hub.edif("course", "add", "ling", "carl", "--instructor")
    assert hub.groups("carl") == {"course:ling:instructor"}
    hub.edif("course", "remove", "ling", "carl")
    assert hub.groups("carl") == set()
    until(lambda: hub.browser("carl").get("ling/").status_code == 404, "carl is out")


def test_only_the_course_service_has_the_hub_follow(hub: CourseHub) -> None:
    url = f"{hub.installation.url('hub')}/hub/api/edif-courses"
    for token in ("hub-admin-token", "page-token"):
        answer = httpx.post(url, headers={"Authorization": f"token {hub.installation.secret(token)}"}, timeout=30)
        assert answer.status_code == 403
    assert httpx.post(url, timeout=30).status_code in {401, 403}
    courses = {"Authorization": f"token {hub.installation.secret('courses-token')}"}
    assert httpx.post(url, headers=courses, timeout=30).status_code == 204
    users = f"{hub.installation.url('hub')}/hub/api/users"
    assert httpx.get(f"{users}/ada", headers=courses, timeout=30).status_code in {403, 404}
    assert httpx.post(f"{users}/ada/server", headers=courses, timeout=30).status_code in {403, 404}


def test_nobody_logs_in_as_a_room(hub: CourseHub) -> None:
    with httpx.Client(base_url=hub.installation.url("proxy"), follow_redirects=True, timeout=60) as client:
        token = re.search(r'name="_xsrf" value="([^"]*)"', client.get("/hub/login").text)
        assert token
        password = hub.installation.secret("user-password")
        client.post("/hub/login", data={"_xsrf": token[1], "username": "room-ling", "password": password})
        assert client.get("/hub/home").url.path == "/hub/login"


def test_instructors_set_limits_and_lab_hours_within_what_the_operator_allows(hub: CourseHub) -> None:
    prof = hub.browser("prof")
    limits = {"what": "limits", "who": "students", "weight": "2", "running_jobs": "1"}
    assert "The limits are set" in prof.send("ling/fabric", "ling/", **limits).text
    refused = prof.send("ling/fabric", "ling/", **{**limits, "weight": "99"})
    assert refused.status_code == 400
    assert "at most 4" in refused.text
    begin = (datetime.now(UTC) + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    lab = {"what": "lab", "starts": begin, "hours": "1,5", "weight": "4"}
    assert "The lab hour is planned" in prof.send("ling/fabric", "ling/", **lab).text
    said = hub.workbench.json("limits")["group:course:ling:student"]
    assert (said["weight"], said["running_jobs"]) == (2.0, 1)
    assert "course:ling:student" in [one["group"] for one in hub.workbench.json("reservations")]
    shown = prof.get("ling/fabric").text
    assert "edif/tiny-gpt2" in shown
    assert "Ada Lovelace" in shown
    assert hub.browser("ada").get("ling/fabric").status_code == 403


def test_an_instructor_enters_a_students_server_with_leave_alone_and_not_after(hub: CourseHub) -> None:
    hub.start_server("ada")
    prof, ada = hub.browser("prof"), hub.browser("ada")

    def enters() -> bool:
        """As a browser does; the page that asks whether the student's server may know who one is is said yes to."""
        answer = prof.client.get("/user/ada/api/status")
        if answer.status_code == 403 and answer.url.path.startswith("/user/ada/"):
            answer = prof.client.get("/user/ada/lab")
            if "/oauth2/authorize" in str(answer.url):
                hidden = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', answer.text)
                fields = {name: [value for other, value in hidden if other == name] for name, _ in hidden}
                prof.client.post(str(answer.url), data=fields)
            answer = prof.client.get("/user/ada/api/status")
        return answer.status_code == 200

    assert not enters()
    prof.send("ling/help", "ling/", do="ask", student="ada", reason="cell 4")
    shown = ada.get("ling/").text
    assert "“cell 4”" in shown
    id = re.search(r'name="id" value="([0-9a-f]{16})"', shown)
    assert id
    assert not enters()
    assert "They can enter" in ada.send("ling/help", "ling/", do="give", id=id[1]).text
    until(enters, "prof enters ada's server", 60)
    assert "Open their notebooks" in prof.get("ling/").text
    prof.send(f"ling/help/{id[1]}/open", "ling/")
    ada.send("ling/help", "ling/", do="end", id=id[1])
    until(lambda: not enters(), "prof is out again", 60)
    mine = [json.loads(line) for line in hub.edif("course", "log", "ling").splitlines()]
    noted = [(line["act"], line["by"]) for line in mine if line["act"].startswith("course.help")]
    assert noted == [
        ("course.help-asked", "prof"), ("course.help-given", "ada"), ("course.help-entered", "prof"),
        ("course.help-ended", "ada"),
    ]  # fmt: skip
    # One log with the hub's and the commands' own lines, one reader.
    all_of_it = hub.workbench.json("audit", "--limit", "1000")
    assert [line for line in mine if line not in all_of_it] == []
    assert ("server.start", "ada") in [(line["act"], line["on"]) for line in all_of_it]


def test_a_launch_from_a_learning_platform_lands_in_the_course(hub: CourseHub) -> None:
    with served(LearningPlatform()) as moodle:
        there = moodle.platform
        added = ("--issuer", there.issuer, "--client", there.client, "--deployment", "7", "--auth-url", there.auth_url)
        hub.edif("course", "lti", "add", *added, "--token-url", there.token_url, "--keys-url", there.keys_url)

        def launch(user: str, subject: str, role: str = "Learner") -> httpx.Response:
            client = hub.browser(user).client
            begun = client.get(
                f"{ROOT}lti/login", params={"iss": there.issuer, "login_hint": "x"}, follow_redirects=False
            )
            asked = {name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()}
            token = moodle.sign(moodle.claims(asked["nonce"], subject, role))
            return client.post(f"{ROOT}lti/launch", data={"state": asked["state"], "id_token": token})

        def confirm(user: str, page: httpx.Response, **fields: str) -> httpx.Response:
            return hub.browser(user).send(str(page.url.path).removeprefix(ROOT), "ling/", **fields)

        assert "is not connected with one here yet" in launch("newton", "s1").text
        page = launch("prof", "t1", "Instructor")
        assert "Moodle &lt;course&gt;" in page.text
        assert confirm("prof", page, course="ling").url.path == f"{ROOT}ling/"
        page = launch("newton", "s1")
        assert "calls you <b>Person s1</b>" in page.text
        proof = re.search(r'name="proof" value="([0-9a-f]{64})"', page.text)
        assert proof
        landed = hub.browser("newton").client.post(str(page.url), data={"proof": proof[1]})
        assert landed.url.path == f"{ROOT}ling/"
        assert launch("newton", "s1").url.path == f"{ROOT}ling/"  # from then on without a word
        assert "linked with the account newton" in launch("eve", "s1").text
        assert "course:ling:student" in hub.groups("newton")

        stolen = launch("bob", "s2").url
        assert "not begun in this browser" in hub.browser("eve").client.get(str(stolen)).text
        forged = hub.browser("eve").client.post(f"{ROOT}lti/launch", data={"state": "0" * 32, "id_token": "x"})
        assert forged.status_code == 409

        moodle.members = [[{"user_id": "s9", "name": "Not Yet", "roles": ["Learner"]}]]
        assert "1 have not come here yet" in hub.browser("prof").send("ling/platform", "ling/").text
        assert "Not Yet" in hub.browser("prof").get("ling/roster").text
