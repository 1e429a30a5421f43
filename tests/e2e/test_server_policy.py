"""A server of the hub in a real browser: JupyterLab works under our policy, what a notebook smuggles in does not."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, expect
from tests.e2e.login_steps import logged_in, until
from tests.light_hub import LightHub
from tests.login_services import LoginService

SMUGGLED = {
    "cells": [
        {
            "cell_type": "code",
            "metadata": {"trusted": True},
            "execution_count": 1,
            "source": "show()",
            "outputs": [
                {
                    "output_type": "display_data",
                    "metadata": {},
                    "data": {
                        "text/html": "<b id=drawn>drawn</b><script>document.title='owned'</script>"
                        "<img src=x onerror=\"document.title='owned'\"><img src='http://127.0.0.1:9/spy.png'>"
                    },
                }
            ],
        }
    ],
    "metadata": {"kernelspec": {"name": "gone", "display_name": "Gone"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


def test_a_notebook_draws_and_runs_nothing_of_its_own(
    hub: LightHub, beta: LoginService, new_page: Callable[[], Page]
) -> None:
    beta.account("nora", name="Nora Note")
    page = new_page()
    account = logged_in(page, hub, beta, "nora")
    page.goto(f"{hub.url}/hub/spawn", wait_until="commit")
    home = hub.installation.hub_dir / "users" / account
    until(home.is_dir)
    (home / "smuggled.ipynb").write_text(json.dumps(SMUGGLED))
    page.wait_for_url("**/lab/**")
    violated: list[str] = []
    page.on("console", lambda message: violated.append(message.text) if "Content Security" in message.text else None)
    page.goto(f"{hub.url}/user/{account}/lab/tree/smuggled.ipynb?reset")
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    expect(page.locator("#drawn")).to_be_visible()
    expect(page.locator(".jp-Toolbar-item, .lm-MenuBar-item").first).to_be_visible()
    assert page.title() != "owned"
    assert any("127.0.0.1:9" in line for line in violated), violated
    identity = page.request.get(f"{hub.url}/user/{account}/api/me").json()["identity"]
    assert identity["display_name"] == "Nora Note"
