"""What keeps people of one hub apart and strangers out: policies, tokens of forms, secrets, users' host names."""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect
from tests.e2e.login_steps import STUDENT, logged_in, new_key
from tests.light_hub import LightHub
from tests.login_services import PASSWORD, LoginService


@pytest.fixture
def visitor(hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]) -> Page:
    """Somebody who is logged in, on the page of keys."""
    alpha.account("vera", name="Vera Visits", **STUDENT, groups=["operators"])
    page = new_page()
    logged_in(page, hub, alpha, "vera")
    return page


def test_pages_work_under_their_policy(hub: LightHub, visitor: Page) -> None:
    violated: list[str] = []
    visitor.on("console", lambda message: violated.append(message.text) if "Content Security" in message.text else None)
    visitor.on("pageerror", lambda error: violated.append(str(error)))
    for path in ("home", "edif-keys", "token", "admin", "nowhere"):
        answer = visitor.goto(f"{hub.url}/hub/{path}", wait_until="load")
        assert answer is not None
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "script-src 'self' 'nonce-" in policy
        expect(visitor.locator("#login_widget, .error").first).to_be_visible()
    expect(visitor.get_by_role("heading", name="There is no such page")).to_be_visible()
    visitor.goto(f"{hub.url}/hub/home")
    visitor.get_by_title("Toggle dark mode").click()  # a script of the page does something
    assert visitor.evaluate("document.documentElement.dataset.bsTheme") in {"dark", "light"}
    assert violated == []
    visitor.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    visitor.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'document.title=2'}))"
    )
    assert "eDIF" in visitor.title()


def test_forms_of_other_sites_do_nothing(hub: LightHub, visitor: Page) -> None:
    cookies = {cookie["name"]: cookie["value"] for cookie in visitor.context.cookies()}
    with httpx.Client(cookies=cookies, timeout=30) as browser:
        for form in ({"days": "1"}, {"days": "1", "_xsrf": "made-up"}):
            assert browser.post(f"{hub.url}/hub/edif-keys", data=form).status_code == 403
        account = (visitor.locator("#login_widget [title]").get_attribute("title") or "").removeprefix("Account ")
        assert browser.post(f"{hub.url}/hub/api/users/{account}/tokens", json={}).status_code == 403
        assert browser.get(f"{hub.url}/hub/home").status_code == 200


def test_cookies_are_not_for_scripts_nor_for_other_paths(visitor: Page) -> None:
    held = {cookie["name"]: cookie for cookie in visitor.context.cookies()}
    assert held["jupyterhub-hub-login"]["httpOnly"] is True
    assert held["jupyterhub-hub-login"]["path"] == "/hub/"
    assert not [name for name in held if name.startswith("edif-login-")]  # spent attempts leave nothing


def test_secrets_are_in_private_files_and_nowhere_else(hub: LightHub, visitor: Page) -> None:
    home = hub.installation.home
    secrets = {path.read_text().strip() for path in (home / "secrets").iterdir()} | {new_key(visitor)}
    words = [secret.encode() for secret in secrets] + [PASSWORD.encode()]
    assert len(words) >= 8
    for process in psutil.process_iter():
        try:
            line = "\0".join(process.cmdline()).encode()
        except psutil.Error:
            continue
        if str(home) in line.decode(errors="replace") or process.ppid() == psutil.Process().pid:
            allowed = b"server.mjs" in line  # the made-up universities' own, started by these tests
            assert allowed or not [word for word in words if word in line]
    holding = [path for path in home.rglob("*") if path.is_file() and any(word in path.read_bytes() for word in words)]
    assert {path.parent.name for path in holding} == {"secrets"}
    assert [path for path in holding if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    assert stat.S_IMODE((home / "hub" / "jupyterhub.sqlite").stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "hub" / "cookie_secret").stat().st_mode) == 0o600
    log = hub.log() + hub.log("proxy")
    assert not re.search(r"code=(?!\[secret\])[\w-]{20}|refresh_token|access_token=[\w-]{10}|eyJ[\w-]{20}", log)
