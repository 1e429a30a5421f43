"""People log in at their universities, in a real browser, at a certified provider.

One hub with two login services, no backend behind it: a login needs none.  What becomes of those who leave:
``test_leaving.py``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.e2e.login_steps import STUDENT, holder, log_in, logged_in, new_key, refused
from tests.light_hub import LightHub
from tests.login_services import PASSWORD, LoginService


def test_login(hub: LightHub, alpha: LoginService, new_page: Callable[[], Page], screenshots: Path) -> None:
    alpha.account("anna", name="Anna Schmidt", **STUDENT, groups=["operators", "lab"])
    page = new_page()
    page.goto(f"{hub.url}/hub/login")
    page.screenshot(path=screenshots / "login-universities.png")
    account = logged_in(page, hub, alpha, "anna")
    assert re.fullmatch(r"u[a-z2-7]{20}", account)
    expect(page.locator("#login_widget")).to_contain_text("Anna Schmidt")
    page.screenshot(path=screenshots / "login-done.png")
    told = holder(hub, new_key(page))
    assert told is not None
    assert told["user_info"]["display_name"] == "Anna Schmidt"
    assert set(told["groups"]) == {"aff:student@alpha.example", "idp:alpha:operators", "idp:alpha:lab"}
    assert told["admin"] is True


def test_groups_of_courses_outlive_a_login_and_the_providers_do_not(
    hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]
) -> None:
    alpha.account("gero", **STUDENT, groups=["lab", "operators"])
    page = new_page()
    account = logged_in(page, hub, alpha, "gero")
    xsrf = {cookie["name"]: cookie["value"] for cookie in page.context.cookies(f"{hub.url}/hub/")}["_xsrf"]
    for path, body in (("", {}), ("/users", {"users": [account]})):
        made = page.request.post(
            f"{hub.url}/hub/api/groups/course:ml:student{path}", data=body, headers={"X-XSRFToken": xsrf}
        )
        assert made.ok, made.text()
    alpha.account("gero", **STUDENT)
    key = new_key(page)
    time.sleep(1.1)
    told = holder(hub, key)
    assert told is not None
    assert (set(told["groups"]), told["admin"]) == ({"aff:student@alpha.example", "course:ml:student"}, False)


def test_wrong_password_and_giving_up(hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]) -> None:
    alpha.account("wanda", **STUDENT)
    page = new_page()
    log_in(page, hub, alpha, "wanda", "not the password")
    expect(page.get_by_role("alert")).to_contain_text("Wrong name or password")
    page.get_by_role("button", name="Cancel").click()
    refused(page, "given up at Alpha University")
    page.goto(f"{hub.url}/hub/home")
    page.wait_for_url("**/hub/login*")


def test_equal_names_at_two_universities_are_two_people(
    hub: LightHub, alpha: LoginService, beta: LoginService, new_page: Callable[[], Page]
) -> None:
    for service in (alpha, beta):
        service.account("max", name="Max Muster", **STUDENT, email="max@muster.example", groups=["operators"])
    first, second = new_page(), new_page()
    accounts = [logged_in(first, hub, alpha, "max"), logged_in(second, hub, beta, "max")]
    assert accounts[0] != accounts[1]
    assert holder(hub, new_key(first))["admin"] is True  # type: ignore[index]
    of_beta = holder(hub, new_key(second))
    assert of_beta is not None
    assert of_beta["admin"] is False
    assert set(of_beta["groups"]) == {"idp:beta:operators"}  # beta may not speak of alpha's students


def test_a_missing_claim_and_a_wrong_one_are_explained(
    hub: LightHub, alpha: LoginService, new_page: Callable[[], Page], screenshots: Path
) -> None:
    alpha.account("mia")
    page = new_page()
    log_in(page, hub, alpha, "mia")
    refused(page, "student@alpha.example", "did not send eduperson_scoped_affiliation", "help@lab.example")
    page.screenshot(path=screenshots / "login-missing-claim.png")
    alpha.account("mia", eduperson_scoped_affiliation=["alum@alpha.example", "student@beta.example"])
    log_in(new_page(), hub, alpha, "mia")
    page.get_by_role("link", name="Log in as somebody else").click()
    alpha.account("mia", **STUDENT)
    page.get_by_label("Name").fill("mia")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{hub.url}/hub/edif-keys")  # where the first login was to lead


def test_an_old_answer_is_good_for_nothing(hub: LightHub, alpha: LoginService, new_page: Callable[[], Page]) -> None:
    alpha.account("rolf", **STUDENT)
    page, answers = new_page(), []
    page.on("request", lambda request: answers.append(request.url) if "/oauth_callback?" in request.url else None)
    logged_in(page, hub, alpha, "rolf")
    for replayed in (page, new_page()):
        replayed.goto(answers[0])
        refused(replayed, "answered before")
    # Somebody who has the browser's cookie of that login too has nothing either.
    begun = new_page()
    begun.on("request", lambda request: answers.append(request.url) if "/oauth_callback?" in request.url else None)
    begun.goto(f"{hub.url}/hub/oauth_login?issuer=alpha&next=/hub/home")
    cookies = begun.context.cookies()
    begun.get_by_label("Name").fill("rolf")
    begun.get_by_label("Password").fill(PASSWORD)
    begun.get_by_role("button", name="Log in").click()
    begun.wait_for_url(f"{hub.url}/hub/home")
    thief = new_page()
    thief.context.add_cookies(cookies)  # type: ignore[arg-type]
    thief.goto(answers[-1])
    refused(thief, "answered before")


@pytest.mark.parametrize(
    "how",
    [
        {"stranger": True},
        {"header": {"alg": "none"}},
        {"payload": {"nonce": "of another login"}},
        {"payload": {"aud": "another application"}},
        {"payload": {"iss": "https://evil.example"}},
        {"payload": {"exp": 1_000_000_000}},
    ],
    ids=lambda how: "-".join(str(part) for part in next(iter(how.items()))),
)
def test_a_forged_token_lets_nobody_in(
    hub: LightHub, beta: LoginService, new_page: Callable[[], Page], how: dict[str, Any]
) -> None:
    beta.account("fred")
    page = new_page()
    beta.forge(**how)
    try:
        log_in(page, hub, beta, "fred")
        refused(page, "id_token of Beta University")
    finally:
        beta.forge()
    page.goto(f"{hub.url}/hub/home")
    page.wait_for_url("**/hub/login*")


@pytest.mark.parametrize(
    "address",
    [
        "//evil.example/nowhere",
        "https://evil.example/nowhere",
        "/\\evil.example",
        "/\t/evil.example/nowhere",
        "javascript:alert(1)",
    ],
)
def test_no_login_leads_to_another_place(
    hub: LightHub, beta: LoginService, new_page: Callable[[], Page], address: str
) -> None:
    beta.account("olga")
    page = new_page()
    hosts = set()
    page.on("request", lambda request: hosts.add(httpx.URL(request.url).netloc.decode()))
    page.goto(str(httpx.URL(f"{hub.url}/hub/oauth_login", params={"issuer": "beta", "next": address})))
    page.get_by_label("Name").fill("olga")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{hub.url}/**")
    assert hosts == {httpx.URL(hub.url).netloc.decode(), httpx.URL(beta.issuer).netloc.decode()}
