"""The gateway's page and the hub's page of keys as people use them: by mouse, by keyboard, without a script, dark."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.e2e.password_login import log_in as through_login

if TYPE_CHECKING:
    from conftest import Workbench

AXE = Path(__file__).resolve().parents[2] / "extensions" / "node_modules" / "axe-core" / "axe.min.js"

#: The hub's pages have a switch of their own; ours follow the reader's preference.
_SET_THEME = "scheme => { const { dataset } = document.documentElement; if (dataset.bsTheme) dataset.bsTheme = scheme }"

SETUP = """
import edif, torch
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def send(seconds, divisor=1):
    with model.trace("A prompt", remote=True, blocking=False) as tracer:
        import time
        time.sleep(seconds)
        print("seen on the server <b>&amp;</b>", 1 / divisor)
        number = torch.arange(3000).save()
    return tracer.backend.job_id
"""
FEW = """
done, failed, long = send(0), send(0, 0), send(600)
edif.job(long).cancel()
for id in (done, failed):
    try:
        edif.job(id).result(show=False)
    except edif.JobFailed:
        pass
print("TOLD", done, failed)
"""


def sent(workbench: Workbench, script: str, user: str) -> list[str]:
    """Run a client of ``user``; gives the ids that it tells."""
    done = workbench.run_client(SETUP + script, user)
    assert "TOLD " in done.stdout, done.stderr[-3000:]
    return done.stdout.partition("TOLD ")[2].split()


@pytest.fixture
def log_in(workbench: Workbench, page: Page) -> Callable[..., None]:
    """Opens an address as ``user``, through the hub's login that stands before it."""

    def open_as(user: str, path: str = "/services/edif/", on: Page | None = None) -> None:
        through_login(on or page, workbench.installation, user, path)

    return open_as


def findings(page: Page) -> list[str]:
    """What axe finds serious or critical, as one line each."""
    page.evaluate(AXE.read_text("utf-8"))  # the page's policy lets no script in that is not its own; the debugger may
    found: dict[str, Any] = page.evaluate("() => axe.run()")
    assert found["passes"]
    return [
        f"{finding['id']}: {node['target']} {node['failureSummary']}"
        for finding in found["violations"]
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]


def looked_at(page: Page, screenshots: Path, name: str) -> None:
    """Keep a picture in light and dark, and let axe look at both."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.evaluate(_SET_THEME, scheme)
        page.screenshot(path=screenshots / f"{name}_{scheme}.png", full_page=True)
        assert findings(page) == [], f"{name}, {scheme}"
    page.emulate_media(color_scheme="light")


def test_a_newcomer_finds_an_empty_page_that_helps(page: Page, log_in: Callable[..., None], screenshots: Path) -> None:
    problems: list[str] = []
    page.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    log_in("pagenew")
    expect(page.get_by_role("heading", name="Your jobs")).to_be_visible()
    expect(page.locator("main")).to_contain_text("You have not sent a job yet.")
    expect(page.locator("main")).to_contain_text("edif/tiny-gpt2")
    looked_at(page, screenshots, "page_empty")
    assert problems == []  # the policy blocks nothing of our own


def test_jobs_are_followed_and_cancelled(
    workbench: Workbench, page: Page, log_in: Callable[..., None], screenshots: Path
) -> None:
    done, failed = sent(workbench, FEW, f"grace{os.getpid()}")
    log_in(f"grace{os.getpid()}")
    rows = page.locator("[data-job]")
    expect(rows).to_have_count(3)
    expect(page.locator(f"[data-job='{done}']")).to_contain_text("Done")
    expect(page.locator(f"[data-job='{failed}']")).to_contain_text("ZeroDivisionError")
    expect(rows.filter(has_text="Cancelled")).to_have_count(1)

    # A new job appears and is cancelled, with the keyboard, while the page stays open.
    (running,) = sent(workbench, "print('TOLD', send(600))", f"grace{os.getpid()}")
    row = page.locator(f"[data-job='{running}']")
    expect(row).to_contain_text("Running")
    looked_at(page, screenshots, "page_jobs")
    cancel = row.get_by_role("button", name=f"Cancel job {running[:8]}")
    cancel.focus()
    page.keyboard.press("Enter")
    expect(page.locator(f"[data-job='{running}']")).to_contain_text("Cancelled by you from the web page.")
    assert workbench.json("jobs", "--user", f"grace{os.getpid()}")[0]["state"] == "CANCELLED"

    page.locator(f"[data-job='{done}']").get_by_role("link").click()
    expect(page.locator("main")).to_contain_text("seen on the server <b>&amp;</b> 1.0")
    expect(page.locator("main")).to_contain_text(f'edif.job("{done}").result()')
    looked_at(page, screenshots, "page_job")
    page.goto(f"{workbench.installation.url('proxy')}/services/edif/jobs/{failed}")
    expect(page.locator("main")).to_contain_text("ZeroDivisionError: division by zero")
    looked_at(page, screenshots, "page_failed")


def test_nobody_sees_or_touches_anothers_job_and_no_other_site_can(
    workbench: Workbench, page: Page, log_in: Callable[..., None], screenshots: Path
) -> None:
    (theirs,) = sent(workbench, "print('TOLD', send(0))", "pageada")
    log_in("pagemallory")
    root = f"{workbench.installation.url('proxy')}/services/edif/"
    assert theirs not in page.content()
    page.goto(f"{root}jobs/{theirs}")
    expect(page.locator("main")).to_contain_text("There is no job")
    looked_at(page, screenshots, "page_missing")
    page.goto(f"{root}?before={theirs}")
    expect(page.locator("main")).to_contain_text("There is no job")

    cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
    with httpx.Client(cookies=cookies) as client:  # the browser's own cookies, without what its page knows
        mine = workbench.json("jobs", "--user", "pageada")[0]
        forged = client.post(f"{root}cancel", data={"id": mine["id"], "proof": "0" * 64})
        assert forged.status_code == 401
        assert "nothing was cancelled" in forged.text
        by_script = client.get(root, headers={"Sec-Fetch-Mode": "cors"})
        assert by_script.status_code == 403
        assert client.get(root).status_code == 200
        assert client.get(f"{root}?before={'x' * 65}").status_code == 422
        for path in ("secrets/x.css", "%2e%2e%2fapp.py", "..%2fapp.py", "jobs/%00"):
            assert client.get(f"{root}{path}").status_code == 404
        client.cookies.set("jupyterhub-session-id", "another", path="/")
        assert client.get(root, follow_redirects=False).status_code == 303  # the cookie belongs to one login
    answer = httpx.get(f"{root}oauth_callback?code=x&state=y")
    assert answer.status_code == 401
    assert "not begun in this browser" in answer.text


def test_the_page_reads_without_script_and_ends_with_the_login(
    workbench: Workbench, page: Page, log_in: Callable[..., None]
) -> None:
    sent(workbench, "print('TOLD', send(0))", "pagequiet")
    browser = page.context.browser
    assert browser
    still = browser.new_context(java_script_enabled=False).new_page()
    log_in("pagequiet", on=still)
    expect(still.locator("[data-job]")).to_have_count(1)
    expect(still.locator("main")).to_contain_text("Models and their queues")
    still.goto(f"{workbench.installation.url('proxy')}/hub/logout")
    still.goto(f"{workbench.installation.url('proxy')}/services/edif/")
    expect(still.locator("#username_input")).to_be_visible()


def test_a_laptop_key_is_made_shown_once_used_and_ended(
    workbench: Workbench, page: Page, log_in: Callable[..., None], screenshots: Path
) -> None:
    log_in(f"laptop{os.getpid()}", "/hub/edif-keys")
    expect(page.locator("main")).to_contain_text("You have no key yet.")
    page.get_by_label("What is it for?").fill("my <b>laptop</b>")
    page.get_by_label("It ends after").select_option("7")
    page.get_by_role("button", name="Get a key").click()
    lines = dict(
        line.removeprefix("export ").split("=", 1)
        for line in page.get_by_label("lines to copy").inner_text().strip().splitlines()
    )
    assert lines["NDIF_HOST"] == workbench.installation.url("gateway")
    looked_at(page, screenshots, "page_keys")

    asked = {"headers": {"ndif-api-key": lines["NDIF_API_KEY"]}, "timeout": 30}
    assert httpx.get(f"{lines['NDIF_HOST']}/whoami", **asked).json()["email"] == f"laptop{os.getpid()}"
    hub = f"{workbench.installation.url('proxy')}/hub/api"
    refused = httpx.get(f"{hub}/users", headers={"Authorization": f"token {lines['NDIF_API_KEY']}"})
    assert refused.status_code == 403  # it traces, and nothing else

    page.reload()  # a form sent again makes another key; the first one is not shown again
    page.goto(f"{workbench.installation.url('proxy')}/hub/edif-keys")
    assert lines["NDIF_API_KEY"] not in page.content()
    row = page.get_by_role("row").filter(has_text="my <b>laptop</b>")
    before = row.count()
    row.first.get_by_role("button").click()
    expect(row).to_have_count(before - 1)
    forged = httpx.post(f"{workbench.installation.url('proxy')}/hub/edif-keys", data={"days": "7"})
    assert forged.status_code == 403
