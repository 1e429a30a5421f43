"""A student's day around the notebook: the page that waits, the cards, a tutorial put back as it came."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import Page, expect
from tests.e2e.test_page import looked_at

if TYPE_CHECKING:
    from conftest import Workbench


def test_cards_and_a_tutorial_put_back(workbench: Workbench, page: Page, screenshots: Path) -> None:
    name = f"student{os.getpid()}"
    page.goto(workbench.installation.url("proxy"))
    page.fill("#username_input", name)
    page.fill("#password_input", workbench.installation.secret("user-password"))
    page.click("#login_submit")
    expect(page.get_by_role("heading", name="Your server starts")).to_be_visible()
    looked_at(page, screenshots, "server_starts")
    page.wait_for_url(f"**/user/{name}/lab/tree/tutorials/00_hello.ipynb")
    home = workbench.installation.hub_dir / "users" / name
    expect(page.locator(".jp-Notebook")).to_contain_text("Hello: look inside a language model")

    # The tutorial was changed on disk meanwhile, as an editor would; the command puts it back and keeps the change.
    tutorial = home / "tutorials" / "00_hello.ipynb"
    original = tutorial.read_text()
    tutorial.write_text(original.replace("Hello: look inside", "Mine: look inside"))
    page.keyboard.press("Control+Shift+C")
    page.get_by_placeholder("SEARCH").or_(page.get_by_role("textbox", name="Command Palette Section")).first.fill(
        "Reset This Tutorial"
    )
    page.keyboard.press("Enter")
    expect(page.locator(".Toastify")).to_contain_text("The original is back. Yours is kept as 00_hello.mine-")
    assert tutorial.read_text() == original
    [kept] = tutorial.parent.glob("00_hello.mine-*.ipynb")
    assert "Mine: look inside" in kept.read_text()

    page.get_by_role("menuitem", name="File", exact=True).click()
    page.get_by_role("menuitem", name="New Launcher").click()
    launcher = page.locator(".jp-Launcher").last
    expect(launcher).to_contain_text("Jobs and models")
    page.screenshot(path=screenshots / "launcher.png")
    launcher.get_by_title("The notebooks that come with the workbench").click()
    expect(page.locator(".jp-DirListing")).to_contain_text("originals")
    with page.expect_popup() as opened:
        launcher.get_by_title("What runs, what waits, what you may use").click()
    expect(opened.value.get_by_role("heading", name="Your jobs")).to_be_visible()
