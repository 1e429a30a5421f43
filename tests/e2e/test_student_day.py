"""A student's day around the notebook: the page that waits, cards, tutorials, what runs in pages, a stopped server.

The tests are hours of one day: one student, one server.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nbformat.v4 import new_code_cell, new_notebook, writes
from playwright.sync_api import Locator, Page, expect
from tests.e2e.password_login import log_in
from tests.e2e.test_page import SETUP, looked_at
from tests.hub_alone import HubAlone, until

from edif_hub.housekeeping import cull_once
from edif_hub.settings import ServerSettings

if TYPE_CHECKING:
    from conftest import Workbench

NAME = f"student{os.getpid()}"
#: The notebook on top: JupyterLab opens those of before again behind it.
SHOWN = ".jp-NotebookPanel:not(.lm-mod-hidden)"
KERNEL = {"kernelspec": {"name": "edif", "display_name": "eDIF", "language": "python"}}

#: A control that the kernel hears of, a view of ours, and an output that tries what outputs may not.
SLIDER = """
import ipywidgets
slider, heard = ipywidgets.IntSlider(description="Layer", max=9), ipywidgets.Label()
slider.observe(lambda change: setattr(heard, "value", f"the kernel heard {change['new']}"), "value")
display(slider, heard)
"""
VIEW = """
import numpy as np
from edif.prediction import NextTokens
told = {"model": "made up", "dtype": "float32"}
NextTokens(np.array([5]), (" Paris",), np.array([0.5]), np.array([1.0]), "Next token", told, "")
"""
HOSTILE = """
from IPython.display import HTML, Javascript
display(HTML("<p>an output</p><img src=x onerror='document.title = 1'><script>document.title = 2</script>"))
display(HTML("<img src='https://edif.invalid/seen.png'><script src='https://edif.invalid/x.js'></script>"))
display(Javascript("document.title = 'owned'"))
"""


@pytest.fixture
def home(workbench: Workbench) -> Path:
    return workbench.installation.hub_dir / "users" / NAME


@pytest.fixture
def opened(workbench: Workbench, page: Page, home: Path) -> Callable[..., list[str]]:
    """Opens a notebook with these cells in the student's JupyterLab; gives what the browser refuses, as it comes."""

    def open_notebook(name: str, *cells: str) -> list[str]:
        (home / name).write_text(writes(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=KERNEL)))
        refused = refusals(page)
        # A workspace of its own: what was open before stays out of the way.
        log_in(page, workbench.installation, NAME, f"/user/{NAME}/lab/workspaces/{Path(name).stem}/tree/{name}")
        wait_for_kernel(page)
        return refused

    return open_notebook


def refusals(page: Page) -> list[str]:
    """What the page's policy has kept out, as it comes."""
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text) if "Content Security Policy" in line.text else None)
    return said


def wait_for_kernel(page: Page) -> None:
    """Until the notebook has its kernel: the sign at its top says idle before there is one."""
    expect(page.get_by_role("button", name="eDIF | Idle")).to_be_visible()


def run(page: Page, number: int) -> None:
    """Run a cell of the notebook that is shown; a key might be pressed while JupyterLab still moves the focus."""
    page.locator(f"{SHOWN} .jp-CodeCell .cm-content").nth(number).click()
    page.locator(SHOWN).get_by_role("button", name="Run this cell and advance").click()


def output(page: Page, number: int) -> Locator:
    """What a cell of the notebook has put out."""
    return page.locator(f"{SHOWN} .jp-CodeCell").nth(number).locator(".jp-OutputArea-output")


def test_cards_and_a_tutorial_put_back(workbench: Workbench, page: Page, home: Path, screenshots: Path) -> None:
    refused = refusals(page)
    log_in(page, workbench.installation, NAME, "/", f"/hub/spawn-pending/{NAME}**")
    expect(page.get_by_role("heading", name="Your server starts")).to_be_visible()
    page.route("**/hub/spawn-pending/**", lambda route: route.abort())  # so that it stays to be looked at
    looked_at(page, screenshots, "server_starts")
    page.unroute("**/hub/spawn-pending/**")
    page.wait_for_url(f"**/user/{NAME}/lab/tree/tutorials/00_hello.ipynb")
    expect(page.locator(".jp-Notebook")).to_contain_text("Hello: look inside a language model")

    # The tutorial was changed on disk meanwhile, as an editor would; the command puts it back and keeps the change.
    tutorial = home / "tutorials" / "00_hello.ipynb"
    original = tutorial.read_text()
    tutorial.write_text(original.replace("Hello: look inside", "Mine: look inside"))
    page.keyboard.press("Control+Shift+C")
    page.locator(".lm-CommandPalette-input").fill("Reset This Tutorial")
    page.keyboard.press("Enter")
    expect(page.locator(".Toastify__toast")).to_contain_text("The original is back. Yours is kept as 00_hello.mine-")
    assert tutorial.read_text() == original
    [kept] = tutorial.parent.glob("00_hello.mine-*.ipynb")
    assert "Mine: look inside" in kept.read_text()

    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="New Launcher").click()
    launcher = page.locator(".jp-Launcher").last
    expect(launcher).to_contain_text("Jobs and models")
    page.screenshot(path=screenshots / "launcher.png")
    for card, heading in (
        ("Jobs and models", "Your jobs"),
        ("Courses", "Your courses"),
    ):
        with page.expect_popup() as opened:
            launcher.get_by_role("button", name=card).click()
        expect(opened.value.get_by_role("heading", name=heading)).to_be_visible()
        opened.value.close()
    launcher.get_by_role("button", name="Tutorials").click()
    expect(page.locator(".jp-DirListing")).to_contain_text("originals")
    assert refused == []


def test_a_page_runs_what_the_workbench_brings_and_nothing_of_an_outputs_own(
    page: Page, opened: Callable[..., list[str]], screenshots: Path
) -> None:
    refused = opened("policy.ipynb", SLIDER, VIEW, HOSTILE)
    left: list[str] = []
    page.route("https://edif.invalid/**", lambda route: (left.append(route.request.url), route.abort()))
    run(page, 0)
    slider = output(page, 0).get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(output(page, 0).last).to_contain_text("the kernel heard 1")  # there and back
    run(page, 1)
    expect(output(page, 1).get_by_role("rowheader", name="␣Paris")).to_be_visible()
    assert refused == []
    run(page, 2)
    expect(output(page, 2).first).to_contain_text("an output")
    expect(output(page, 2).last).to_contain_text("JavaScript output is disabled")
    until(lambda: page.wait_for_timeout(100) or len(refused) >= 4, "what the output tried is refused")
    assert page.title() not in {"1", "2", "owned"}
    page.screenshot(path=screenshots / "policy.png")
    assert left == []


def cull(workbench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the student's server as the housekeeping does with idle ones."""
    monkeypatch.setenv("EDIF_HOME", str(workbench.installation.home))
    look = cull_once(workbench.installation, ServerSettings(idle_after_s=0.001))
    with ThreadPoolExecutor() as thread:  # the browser's driver has this thread's event loop
        thread.submit(asyncio.run, look).result()
    until(lambda: HubAlone(workbench.installation).server(NAME) is None, "the idle server is stopped")


def start_again(page: Page, workbench: Workbench, name: str) -> None:
    """Open a notebook of a stopped server and start it from the page that comes instead."""
    page.goto(f"{workbench.installation.url('proxy')}/user/{NAME}/lab/tree/{name}")
    page.get_by_role("button", name="Start my server").click()
    page.wait_for_url(f"**/user/{NAME}/lab/tree/{name}")
    wait_for_kernel(page)


def test_the_page_of_a_stopped_server_leads_back_to_the_notebook(
    workbench: Workbench,
    page: Page,
    opened: Callable[..., list[str]],
    screenshots: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened("kept.ipynb", "print('kept')")
    cull(workbench, monkeypatch)
    page.goto(f"{workbench.installation.url('proxy')}/user/{NAME}/lab/tree/kept.ipynb")
    expect(page.get_by_role("heading", name="Your server is not running")).to_be_visible()
    looked_at(page, screenshots, "not_running")
    start_again(page, workbench, "kept.ipynb")
    run(page, 0)
    expect(output(page, 0)).to_contain_text("kept")


def test_results_are_found_again_after_an_idle_server_was_stopped(
    workbench: Workbench,
    page: Page,
    opened: Callable[..., list[str]],
    screenshots: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look = "import edif\nedif.jobs()[0].result()['number'].sum().item()"
    opened("later.ipynb", f"{SETUP}\nprint('sent', send(3))", look)
    run(page, 0)
    expect(output(page, 0).last).to_contain_text("sent ")
    page.keyboard.press("Control+s")
    cull(workbench, monkeypatch)
    start_again(page, workbench, "later.ipynb")
    run(page, 1)
    expect(output(page, 1).last).to_contain_text("4498500")
    page.screenshot(path=screenshots / "found_again.png")
