"""The operator's two pages: what the gateway knows and what the hub knows, acted on, written down, closed to others."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect
from tests.e2e.test_page import log_in as log_in  # noqa: PLC0414 (a fixture)
from tests.e2e.test_page import looked_at, sent
from tests.hub_alone import until

if TYPE_CHECKING:
    from conftest import Workbench

OPERATOR, PEOPLE = "/services/edif/operator", "/hub/edif-people"
SUBJECT = f"user:student{os.getpid()}"


def test_an_operator_sees_all_acts_and_it_is_written_down(
    workbench: Workbench, page: Page, log_in: Callable[..., None], screenshots: Path
) -> None:
    (running,) = sent(workbench, "print('TOLD', send(600))", "opsada")
    until(lambda: workbench.json("jobs", "--user", "opsada")[0]["state"] == "RUNNING", "the job runs")  # model and all
    log_in("admin", OPERATOR)
    row = page.locator(f"[data-job='{running}']")
    expect(row).to_contain_text("opsada")
    expect(page.locator("[data-model='edif/tiny-gpt2']")).to_contain_text("Ready")
    row.get_by_role("button", name=f"Cancel job {running[:8]} of opsada").click()
    expect(page.get_by_role("status")).to_contain_text("The job is cancelled")
    assert workbench.json("jobs", "--user", "opsada")[0]["state"] == "CANCELLED"

    page.get_by_label("For (group:NAME or user:NAME)").fill(SUBJECT)
    page.get_by_label("What they may").fill("queued_jobs=many")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.locator("main")).to_contain_text("queued_jobs")  # a refusal, with its reason
    page.goto(f"{workbench.installation.url('proxy')}{OPERATOR}")
    page.get_by_label("For (group:NAME or user:NAME)").fill(SUBJECT)
    page.get_by_label("What they may").fill("queued_jobs=7 weight=2")
    page.get_by_role("button", name="Set", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("it counts within seconds")
    assert workbench.json("limits")[SUBJECT] == {"queued_jobs": 7, "weight": 2.0}
    looked_at(page, screenshots, "operate")
    page.get_by_role("button", name=f"Take back what is set for {SUBJECT}").click()
    expect(page.get_by_role("status")).to_contain_text("edif.toml counts again")
    assert SUBJECT not in workbench.json("limits")

    with page.expect_download() as download:
        page.get_by_role("link", name="All of it as JSON lines").click()
    lines = [json.loads(line) for line in download.value.path().read_text().splitlines()]
    mine = [(line["act"], line["on"]) for line in lines if line["by"] == "admin" and line["via"] == "page"]
    assert mine[-3:] == [("job.cancel", running), ("limits.set", SUBJECT), ("limits.clear", SUBJECT)]
    assert workbench.edif("audit", "--lines").stdout == download.value.path().read_text()


def test_models_are_pinned_and_unpinned_from_the_page(
    workbench: Workbench, page: Page, log_in: Callable[..., None]
) -> None:
    log_in("admin", OPERATOR)
    row = page.locator("[data-model='edif/tiny-gpt2']")
    pinned = row.get_by_role("button", name="Unpin edif/tiny-gpt2").count() == 1
    first, second = ("Unpin", "Pin") if pinned else ("Pin", "Unpin")
    for act, now in ((first, not pinned), (second, pinned)):
        row.get_by_role("button", name=f"{act} edif/tiny-gpt2", exact=True).click()
        expect(page.get_by_role("status")).to_contain_text("pinned")
        found = {model["id"]: model["pinned"] for model in workbench.json("models")}
        assert found["edif/tiny-gpt2"] is now


def test_people_servers_and_keys(
    workbench: Workbench, page: Page, log_in: Callable[..., None], screenshots: Path
) -> None:
    name = f"keyed{os.getpid()}"
    made = [workbench.json("key", "new", "--user", name)["id"] for _ in range(2)]
    log_in("admin", PEOPLE)
    row = page.locator(f"[data-person='{name}']")
    row.get_by_role("link", name=f"2 keys of {name}").click()
    looked_at(page, screenshots, "people")
    page.get_by_role("button", name=f"End all keys of {name}").click()
    expect(page.get_by_role("status")).to_contain_text(f"2 keys of {name} are ended.")
    assert workbench.json("key", "list", "--user", name) == []
    acts = workbench.json("audit", "--act", "key.")
    assert {(act["act"], act["by"]) for act in acts if act["on"] == name and act.get("key") in made} >= {
        ("key.end", "admin")
    }
    assert name in {person["name"] for person in workbench.json("people")}
    refused = workbench.edif("servers", "stop", name)
    assert refused.returncode == 1
    assert f"No server of {name} runs" in refused.stderr


def test_others_are_kept_out_and_no_script_is_needed(
    workbench: Workbench, page: Page, log_in: Callable[..., None]
) -> None:
    log_in("opsmallory", OPERATOR)
    expect(page.locator("main")).to_contain_text("for those who run this workbench")
    expect(page.get_by_role("link", name="Operate")).to_have_count(0)
    answer = page.goto(f"{workbench.installation.url('proxy')}{OPERATOR}/audit.jsonl")
    assert answer is not None
    assert answer.status == 403
    answer = page.goto(f"{workbench.installation.url('proxy')}{PEOPLE}")
    assert answer is not None
    assert answer.status == 403
    assert page.context.browser
    still = page.context.browser.new_context(java_script_enabled=False).new_page()
    log_in("admin", OPERATOR, on=still)
    expect(still.locator("main")).to_contain_text("Who did what")
    still.goto(f"{workbench.installation.url('proxy')}{PEOPLE}")
    expect(still.locator("[data-person='opsmallory']")).to_have_count(1)
