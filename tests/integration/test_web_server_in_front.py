"""A web server in front of the workbench: what it says of the browser reaches whoever decides by it."""

from __future__ import annotations

import re

import httpx
from tests.course_hub import ROOT, CourseHub

#: Failed logins a minute from one address (``[login] attempts``).
_LIMIT = 20


def test_failed_logins_are_counted_by_the_browsers_address_and_not_by_the_web_servers(courses: CourseHub) -> None:
    def fail(number: int, address: str, **more: str) -> int:
        sent = {"X-Forwarded-For": address, **more}
        with httpx.Client(base_url=courses.installation.url("proxy"), headers=sent, timeout=30) as browser:
            shown = browser.get("/hub/login").text
            found = re.search(r'name="_xsrf" value="([^"]*)"', shown)
            assert found
            form = {"_xsrf": found[1], "username": f"guess{number}", "password": "wrong"}
            return browser.post("/hub/login", data=form).status_code

    assert {fail(number, "192.0.2.1") for number in range(_LIMIT)} == {403}
    assert fail(_LIMIT, "192.0.2.1") == 429
    assert fail(_LIMIT, "192.0.2.9, 192.0.2.1") == 429  # what the browser itself claims stands before
    assert fail(_LIMIT, "192.0.2.1", **{"X-Real-IP": "192.0.2.3"}) == 429
    assert fail(_LIMIT, "192.0.2.2") == 403


def test_cookies_of_pages_that_came_by_https_are_for_https_alone(courses: CourseHub) -> None:
    address = f"{courses.installation.url('proxy')}{ROOT}"
    assert "Secure" in httpx.get(address, headers={"X-Forwarded-Proto": "https"}).headers["set-cookie"]
    assert "Secure" not in httpx.get(address).headers["set-cookie"]
