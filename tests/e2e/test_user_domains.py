"""Host names for user servers: every way leads to them and back, and one user's page reaches nothing of another's.

Browsers find any name below ``localhost`` on this machine, so no DNS is needed.  Outputs may run scripts here: what
keeps users apart in these tests is the host names alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes
from playwright.sync_api import Page, expect
from tests.conftest import TINY_ALONE, installation
from tests.course_hub import ROOT, CourseHub
from tests.e2e.password_login import log_in
from tests.hub_alone import hub_alone, until

from edif_protocol.installation import Installation

ROLES = ("proxy", "hub", "courses", "gateway")
PAGES = ("/services/courses/page.css", "/services/edif/page.css")
KERNEL = {"kernelspec": {"name": "edif", "display_name": "eDIF", "language": "python"}}

#: What a script in a page can try on a server that its visitor may use; gives what came of each attempt.
TRY = """async ({ server, hub, name }) => {
  const tell = async (what) => { try { return String(await what()); } catch (problem) { return problem.name; } };
  const proof = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie)?.[1] ?? "";
  const known = { credentials: "include", headers: { "X-XSRFToken": proof } };
  const send = (url, options) => tell(async () => (await fetch(url, { ...known, ...options })).status);
  const opened = window.open(`${server}/lab`);
  await new Promise((done) => setTimeout(done, 1500));
  const found = {
    read: await send(`${server}/api/contents`),
    write: await send(`${server}/api/contents/${name}`, { method: "PUT", body: '{"type":"file"}' }),
    hub: await send(`${hub}/hub/api/user`),
    page: await tell(() => opened.document.title.split(/[- ]/).at(-1)),
    socket: await tell(() => new Promise((done) => {
      const socket = new WebSocket(`${server.replace("http", "ws")}/api/events/subscribe`);
      socket.onopen = () => done("open");
      socket.onerror = () => done("refused");
    })),
  };
  opened.close();
  document.cookie = `_xsrf=trap; path=/hub/; domain=${new URL(hub).hostname}`;
  const form = new URLSearchParams({ days: "7", note: "trap", _xsrf: "trap" });
  const blindly = { method: "POST", mode: "no-cors", credentials: "include", body: form };
  await tell(() => fetch(`${hub}/hub/edif-keys`, blindly));
  return { ...found, cookie: /_xsrf=(?!trap)/.test(document.cookie) };
}"""


def own(found: Installation) -> str:
    """The workbench's own address."""
    return f"http://edif.localhost:{found.port}"


def at(found: Installation, user: str) -> str:
    """The address of a user's server."""
    return f"http://{user}.edif.localhost:{found.port}/user/{user}"


@pytest.fixture(scope="module")
def domains() -> Iterator[CourseHub]:
    """A hub with gateway and courses, whose users have host names."""
    with installation("domains") as made:
        found = made.installation
        found.models_file.write_text(TINY_ALONE)
        found.config_file.write_text(
            f'[hub]\npublic_url = "{own(found)}"\nuser_domains = true\n[servers]\noutput_scripts = true\n'
        )
        with hub_alone(found, ROLES) as hub, ExitStack() as opened:
            until(lambda: all(hub.answers(path) for path in PAGES), "gateway and courses answer")
            yield CourseHub(made, hub, opened)


@pytest.fixture
def visit(domains: CourseHub, page: Page) -> Callable[..., Page]:
    """Opens an address as a user, through the login, in the browser of this test."""

    def as_user(user: str, path: str, lands: str, on: Page | None = None) -> Page:
        log_in(on or page, domains.installation, user, path, lands, own(domains.installation))
        return on or page

    return as_user


def test_ways_lead_to_a_server_at_its_own_name_and_back(
    domains: CourseHub, visit: Callable[..., Page], screenshots: Path
) -> None:
    found = domains.installation
    page = visit("ada", "/", "/hub/spawn-pending/ada**")
    page.wait_for_url(f"{at(found, 'ada')}/lab/tree/tutorials/00_hello.ipynb")
    (found.hub_dir / "users" / "ada" / "sum.ipynb").write_text(
        writes(new_notebook(cells=[new_code_cell("print('so', 40 + 2)")], metadata=KERNEL))
    )
    page.goto(f"{own(found)}/hub/user-redirect/lab/tree/sum.ipynb")
    page.wait_for_url(f"{at(found, 'ada')}/lab/tree/sum.ipynb")
    expect(page.get_by_role("button", name="eDIF | Idle")).to_be_visible()
    shown = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")
    shown.get_by_role("button", name="Run this cell and advance").click()
    expect(shown.locator(".jp-OutputArea-output")).to_contain_text("so 42")

    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="New Launcher").click()
    for card, heading in (("Jobs and models", "Your jobs"), ("Courses", "Your courses")):
        with page.expect_popup() as popup:
            page.locator(".jp-Launcher").last.get_by_role("button", name=card).click()
        expect(popup.value.get_by_role("heading", name=heading)).to_be_visible()
        assert popup.value.url.startswith(f"{own(found)}/services/")
        popup.value.get_by_role("link", name="Notebooks").click()
        popup.value.wait_for_url(f"{at(found, 'ada')}/lab**")
        popup.value.close()
    page.screenshot(path=screenshots / "user_domain.png")
    page.get_by_role("menuitem", name="File", exact=True).click()
    with page.expect_popup() as popup:
        page.get_by_role("menuitem", name="Hub Control Panel").click()
    popup.value.wait_for_url(f"{own(found)}/hub/home")
    popup.value.get_by_role("button", name="Log out").click()
    expect(popup.value.locator("#username_input")).to_be_visible()
    page.goto(f"{at(found, 'ada')}/lab")
    page.wait_for_url(f"{own(found)}/hub/login**")


def test_a_page_of_one_user_reaches_nothing_of_anothers(domains: CourseHub, visit: Callable[..., Page]) -> None:
    found = domains.installation
    server = at(found, "victim")
    page = visit("victim", "/hub/spawn", "/hub/spawn-pending/victim**")
    page.wait_for_url(f"{server}/lab**")
    assert page.evaluate(TRY, {"server": server, "hub": own(found), "name": "own.txt"}) == {
        "read": "200",  # what the browser holds opens the server, to the server's own pages
        "write": "201",
        "hub": "TypeError",
        "page": "JupyterLab",
        "socket": "open",
        "cookie": True,
    }
    # Whatever a user's server shows: their files, what they install there, what runs in their notebooks.
    show = {"body": "<title>Mallory's</title>", "content_type": "text/html"}
    page.route(re.compile(r"^http://mallory\."), lambda route: route.fulfill(**show))
    page.goto(f"{at(found, 'mallory')}/proxy/trap.html")
    assert page.title() == "Mallory's"
    assert page.evaluate(TRY, {"server": server, "hub": own(found), "name": "planted.txt"}) == {
        "read": "TypeError",
        "write": "TypeError",
        "hub": "TypeError",
        "page": "SecurityError",
        "socket": "refused",
        "cookie": False,
    }
    assert not (found.hub_dir / "users" / "victim" / "planted.txt").exists()
    with domains.hub.api() as api:
        notes = [token["note"] for token in api.get("/users/victim/tokens").json()["api_tokens"]]
    assert not [note for note in notes if "trap" in note]


def test_at_a_users_name_there_is_their_server_and_nothing_of_the_hub(domains: CourseHub) -> None:
    found = domains.installation
    name, address = f"nobody.edif.localhost:{found.port}", found.url("proxy")
    with httpx.Client(base_url=address, headers={"Host": name}) as browser:
        for path in ("/hub/login?next=%2Fhub%2Fhome", "/services/edif/", "/services/courses/", "/user/nobody/lab", "/"):
            answer = browser.get(path)
            assert (answer.status_code, answer.headers["location"]) == (302, f"{own(found)}{path}")
        assert browser.post("/hub/login", data={"username": "nobody"}).status_code == 404
        assert browser.post("/hub/api/users").status_code == 404
        assert browser.get("/hub/static/css/style.min.css").status_code == 200  # of pages that say what is wrong
    assert httpx.get(f"{address}/hub/api/").json()["version"]  # programs on this machine ask by its address


def test_an_instructor_is_let_into_a_students_server_at_its_name(
    domains: CourseHub, page: Page, visit: Callable[..., Page]
) -> None:
    today = datetime.now(UTC).date()
    dates = ("--from", str(today - timedelta(days=1)), "--until", str(today + timedelta(days=9)))
    domains.edif("course", "new", "names", "--title", "Names", *dates, "--instructor", "noether")
    domains.edif("course", "add", "names", "emmy")
    assert page.context.browser
    student = page.context.browser.new_context().new_page()
    visit("emmy", "/hub/spawn", "/hub/spawn-pending/emmy**", student).wait_for_url(
        f"{at(domains.installation, 'emmy')}/lab**"
    )
    student.goto(f"{own(domains.installation)}{ROOT}names/")
    student.get_by_role("button", name="Let them in").click()
    expect(student.get_by_role("status").first).to_contain_text("They can enter your server now")

    visit("noether", f"{ROOT}names/", f"{ROOT}names/")
    page.get_by_role("button", name="Open their notebooks").click()
    page.get_by_role("button", name="Authorize").click()  # the hub asks once whether that server may know who it is
    page.wait_for_url(f"{at(domains.installation, 'emmy')}/lab**")
    expect(page.locator(".jp-Launcher, .jp-NotebookPanel").first).to_be_visible()
