"""What people do to log in at a made-up university, and what the hub says of them afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import psutil
from playwright.sync_api import Page, expect
from tests.light_hub import LightHub
from tests.login_services import PASSWORD, LoginService

#: ``refresh_s``: whoever is looked at again after a second need not be waited for.
SETTINGS = """
[login]
contact = "help@lab.example"
refresh_s = 1
attempts = 1000
{login}

[[login.issuers]]
id = "alpha"
title = "Alpha University"
issuer = "{alpha}"
client_id = "edif"
authorize_parameters = {{ prompt = "consent" }}  # so that this provider gives out tokens that outlive its sessions
affiliation_domains = ["alpha.example"]
group_prefix = "alpha"
allowed_affiliations = ["student@alpha.example"]
admin_groups = ["operators"]

[[login.issuers]]
id = "beta"
title = "Beta University"
issuer = "{beta}"
client_id = "edif"
scopes = ["openid", "profile"]
affiliation_domains = ["beta.example"]
group_prefix = "beta"
allow_everyone = true

[hub]
{hub}
"""
STUDENT = {"eduperson_scoped_affiliation": ["student@alpha.example"]}


def configure(hub: LightHub, services: dict[str, LoginService], login: str = "", more: str = "") -> None:
    addresses = {id: service.issuer for id, service in services.items()}
    hub.configure(SETTINGS.format(**addresses, login=login, hub=more))


def log_in(page: Page, hub: LightHub, service: LoginService, name: str, password: str = PASSWORD) -> None:
    """From the hub's login page through the university's form; ends where the university sends the browser."""
    page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fedif-keys")
    page.get_by_role("link", name=f"{service.id.title()} University").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def logged_in(page: Page, hub: LightHub, service: LoginService, name: str) -> str:
    """Log in, and be in; gives the name of the account."""
    log_in(page, hub, service, name)
    page.wait_for_url(f"{hub.url}/hub/edif-keys")
    title = page.locator("#login_widget [title]").get_attribute("title") or ""
    return title.removeprefix("Account ")


def new_key(page: Page) -> str:
    """A laptop key, from the page of keys."""
    page.get_by_role("button", name="Get a key").click()
    shown = page.get_by_label("lines to copy").inner_text()
    return re.findall(r"NDIF_API_KEY=(\S+)", shown)[0]


def holder(hub: LightHub, key: str) -> dict[str, Any] | None:
    """What the hub says of a key when the gateway asks; None when it refuses it."""
    headers = {"Authorization": f"token {key}"}
    answer = httpx.get(f"{hub.installation.url('hub')}/hub/api/user", headers=headers, timeout=30)
    assert answer.status_code in {200, 403}
    return answer.json() if answer.status_code == 200 else None


def api(hub: LightHub, path: str) -> Any:
    """The hub's own word, with the rights of the ``edif`` command."""
    headers = {"Authorization": f"token {hub.installation.secret('hub-admin-token')}"}
    return httpx.get(f"{hub.installation.url('hub')}/hub/api{path}", headers=headers, timeout=30).json()


def has_server(hub: LightHub, account: str) -> bool:
    """Whether a server of that account is running."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            found = process.environ()
            if found.get("JUPYTERHUB_USER") == account and found.get("EDIF_HOME") == str(hub.installation.home):
                return True
    return False


def until(true: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 60
    while not true():
        assert time.monotonic() < ends_at, "it did not come about within a minute"
        time.sleep(0.3)


def refused(page: Page, *said: str) -> None:
    """The page is one of our refusals, and says this."""
    for part in said:
        expect(page.get_by_role("alert")).to_contain_text(part)
    expect(page.get_by_role("link", name="All ways to log in")).to_be_visible()


@contextmanager
def restarted(hub: LightHub, services: dict[str, LoginService], login: str = "", more: str = "") -> Iterator[None]:
    """The hub with other settings, as long as the block lasts."""
    roles = ("hub", "proxy") if more else ("hub",)  # users' host names are routes of the proxy

    def restart(**settings: str) -> None:
        hub.stop(*roles)
        configure(hub, services, **settings)
        hub.start()

    try:
        restart(login=login, more=more)
        yield
    finally:
        restart()
