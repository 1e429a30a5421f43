"""The story of one job, as a newcomer lives it: log in, run the first notebook, see what a model would say next.

Start reading here.  Every process of the workbench takes part: proxy, hub, user server, kernel, gateway, dispatcher,
replica, executor.  ARCHITECTURE.md names the files on the way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect

if TYPE_CHECKING:
    from conftest import Workbench


def test_newcomer_sees_what_the_model_would_say_next(workbench: Workbench, page: Page, screenshots: Path) -> None:
    # 1. The address that `edif up` prints: a login, any name, the installation's password.
    page.goto(workbench.installation.url("proxy"))
    page.fill("#username_input", "newcomer")
    page.fill("#password_input", workbench.installation.secret("user-password"))
    page.click("#login_submit")

    # 2. A server of their own starts, and the first notebook opens in JupyterLab with the eDIF kernel.
    page.wait_for_url("**/user/newcomer/lab/tree/tutorials/00_hello.ipynb")
    notebook = page.locator(".jp-Notebook")
    expect(notebook).to_contain_text("Hello: look inside a language model")
    kernel = page.locator(".jp-Notebook-ExecutionIndicator")
    expect(kernel).to_have_attribute("data-status", "idle")
    page.screenshot(path=screenshots / "one_job_opened.png")

    # 3. Run all cells: plain nnsight code, no address, no key.  Each trace is a job on the backend.  The notebook comes
    #    with the outputs that are expected, so they are cleared first: what is seen afterwards was computed now.
    outputs = page.locator(".jp-OutputArea-output")
    _menu(page, "Edit", "Clear Outputs of All Cells")
    expect(outputs).to_have_count(0)
    _menu(page, "Run", "Run All Cells")

    # 4. The last cell has run: it lists the models that they can load.
    expect(page.locator(".jp-CodeCell").last.locator(outputs)).to_contain_text("RUNNING")

    # 5. The prediction is drawn under its cell, and the intervention has changed it.
    first, changed = outputs.filter(has_text="␣Paris"), outputs.filter(has_text="Subject replaced at layer 10")
    first.first.scroll_into_view_if_needed()
    expect(first.first).to_contain_text("0.656")
    page.screenshot(path=screenshots / "one_job_prediction.png")
    changed.scroll_into_view_if_needed()
    expect(changed).to_contain_text("␣Rome")
    expect(changed).to_contain_text("0.788")
    page.screenshot(path=screenshots / "one_job_changed.png")
    expect(page.locator("[data-mime-type='application/vnd.jupyter.stderr']")).to_have_count(0)


def _menu(page: Page, menu: str, entry: str) -> None:
    page.get_by_role("menuitem", name=menu, exact=True).click()
    page.get_by_role("menuitem", name=entry, exact=True).click()
