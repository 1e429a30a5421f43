"""People who are in, and then are not: the provider is down, they leave, their login ends, they log out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.e2e.login_steps import (
    STUDENT,
    api,
    has_server,
    holder,
    log_in,
    logged_in,
    new_key,
    refused,
    restarted,
    until,
)
from tests.light_hub import LightHub
from tests.login_services import LoginService


def test_an_outage_keeps_people_in_and_tells_newcomers(
    hub: LightHub, alpha: LoginService, new_page: Callable[[], Page], screenshots: Path
) -> None:
    alpha.account("otto", name="Otto Ott", **STUDENT)
    page, newcomer = new_page(), new_page()
    logged_in(page, hub, alpha, "otto")
    key = new_key(page)
    alpha.stop()
    try:
        time.sleep(1.1)
        page.goto(f"{hub.url}/hub/edif-keys")
        expect(page.locator("#login_widget")).to_contain_text("Otto Ott")
        assert holder(hub, key)
        newcomer.goto(f"{hub.url}/hub/oauth_login?issuer=alpha")
        refused(newcomer, "Alpha University does not answer", "Try again in a few minutes")
        newcomer.screenshot(path=screenshots / "login-outage.png")
        page.goto(f"{hub.url}/hub/logout")
        expect(page.locator("main")).to_contain_text("login service was not told")
    finally:
        alpha.start()
    newcomer.get_by_role("link", name="Try again").click()
    expect(newcomer.get_by_label("Name")).to_be_visible()


def test_somebody_taken_out_of_the_group_loses_session_server_and_keys(
    hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]
) -> None:
    alpha.account("rita", **STUDENT)
    page = new_page()
    account = logged_in(page, hub, alpha, "rita")
    key = new_key(page)
    page.goto(f"{hub.url}/hub/spawn", wait_until="commit")
    page.wait_for_url("**/lab/**")
    assert has_server(hub, account)
    assert holder(hub, key)
    alpha.account("rita", eduperson_scoped_affiliation=["alum@alpha.example"])
    time.sleep(1.1)
    until(lambda: holder(hub, key) is None)
    assert api(hub, f"/users/{account}/tokens")["api_tokens"] == []
    page.goto(f"{hub.url}/hub/home")
    page.wait_for_url("**/hub/login*")
    until(lambda: not has_server(hub, account))
    again = new_page()
    log_in(again, hub, alpha, "rita")
    refused(again, "alum@alpha.example", "help@lab.example")
    assert f"{account} left" in hub.log()


def test_somebody_deleted_at_the_provider_is_out(
    hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]
) -> None:
    alpha.account("dora", **STUDENT)
    page = new_page()
    logged_in(page, hub, alpha, "dora")
    key = new_key(page)
    alpha.delete("dora")
    time.sleep(1.1)
    page.goto(f"{hub.url}/hub/edif-keys")
    page.wait_for_url("**/hub/login*")
    assert holder(hub, key) is None


def test_a_session_that_nobody_vouches_for_expires_and_keys_go_on_for_a_while(
    services_and_hub: tuple[dict[str, LoginService], LightHub], beta: LoginService, new_page: Callable[[], Page]
) -> None:
    services, hub = services_and_hub
    beta.account("eva", name="Eva Ende")
    page = new_page()
    logged_in(page, hub, beta, "eva")
    key = new_key(page)
    beta.delete("eva")  # its refresh token ends with its session, so a no is no word on the account
    time.sleep(1.1)
    page.goto(f"{hub.url}/hub/edif-keys")
    expect(page.locator("#login_widget")).to_contain_text("Eva Ende")
    with restarted(hub, services, login="session_s = 1"):
        assert holder(hub, key)
        page.goto(f"{hub.url}/hub/edif-keys")
        page.wait_for_url("**/hub/login*")
        assert holder(hub, key)


def test_log_out_is_also_at_the_provider(hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]) -> None:
    alpha.account("lena", **STUDENT)
    page = new_page()
    logged_in(page, hub, alpha, "lena")
    key = new_key(page)
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Yes, log me out").click()
    page.wait_for_url(f"{hub.url}/hub/edif-logged-out*")
    expect(page.locator("main")).to_contain_text("You are logged out")
    page.goto(f"{hub.url}/hub/oauth_login?issuer=alpha")
    expect(page.get_by_label("Password")).to_be_visible()  # the provider does not know this browser any more
    time.sleep(1.1)
    assert holder(hub, key)
