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

    # 3. Run all cells: plain nnsight code, no address, no key.  Each trace is a job on the backend.
    notebook.click()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    # 4. The last cell has run: it says who they are and where their traces went.
    last = page.locator(".jp-CodeCell").last
    expect(last).to_contain_text("User: newcomer")

    # 5. The prediction is drawn under its cell, and the intervention has changed it.
    cards = page.locator(".jp-OutputArea-output", has_text="␣Paris")
    cards.first.scroll_into_view_if_needed()
    expect(cards.first).to_contain_text("0.656")
    page.screenshot(path=screenshots / "one_job_prediction.png")
    changed = page.locator(".jp-OutputArea-output", has_text="␣Rome").filter(has_text="0.788")
    changed.first.scroll_into_view_if_needed()
    expect(changed.first).to_contain_text("subject replaced")
    page.screenshot(path=screenshots / "one_job_changed.png")
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
