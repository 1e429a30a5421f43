"""An installation's hub without the backend: proxy, hub and housekeeping under the real supervisor.

For tests and benchmarks of user servers; it starts in a few seconds, where a whole workbench takes half a minute.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from edif_backend.cli.supervision import start, states, stop
from edif_protocol.installation import Installation

ROLES = ("proxy", "hub", "housekeeping")


def until(true: Callable[[], Any], what: str, patience_s: float = 90, pause_s: float = 0.1) -> float:
    """Wait until ``true()``; gives the seconds that took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() < began + patience_s, f"never happened: {what}"
        time.sleep(pause_s)
    return time.monotonic() - began


@dataclass
class HubAlone:
    """A running hub."""

    installation: Installation

    def api(self, as_service: str = "hub-admin-token") -> httpx.Client:
        """The hub's API as one of its services."""
        token = self.installation.secret(as_service)
        url = f"{self.installation.url('hub')}/hub/api"
        return httpx.Client(base_url=url, headers={"Authorization": f"token {token}"}, timeout=30)

    @contextmanager
    def browser(self, user: str) -> Iterator[httpx.Client]:
        """A browser without scripts, logged in."""
        with httpx.Client(base_url=self.installation.url("proxy"), follow_redirects=True, timeout=60) as browser:
            token = re.search(r'name="_xsrf" value="([^"]*)"', browser.get("/hub/login").text)
            assert token
            password = self.installation.secret("admin-password" if user == "admin" else "user-password")
            form = {"_xsrf": token[1], "username": user, "password": password}
            assert browser.post("/hub/login?next=/hub/home", data=form).url.path == "/hub/home"
            yield browser

    def answers(self, path: str = "/hub/api/") -> bool:
        """Whether the proxy, and what is behind it, answers."""
        try:
            return httpx.get(f"{self.installation.url('proxy')}{path}", timeout=5).status_code < 400
        except httpx.TransportError:
            return False

    def pid(self, role: str) -> int:
        """The process of a supervised program; 0 while there is none."""
        return next((found.pid or 0 for found in states(self.installation) or () if found.role == role), 0)

    def kill(self, role: str) -> int:
        """``kill -9``."""
        pid = self.pid(role)
        assert pid, f"no {role} is running"
        os.kill(pid, signal.SIGKILL)
        return pid

    def server(self, user: str) -> dict[str, Any] | None:
        """What the hub says of the user's server; None when it has none."""
        with self.api("housekeeping-token") as api:
            answer = api.get(f"/users/{user}", params={"include_stopped_servers": False})
        found: dict[str, Any] | None = answer.json().get("servers", {}).get("") if answer.status_code == 200 else None
        return found

    def start(self, browser: httpx.Client, user: str, patience_s: float = 120) -> None:
        """Start the user's server as a browser does, and wait for it on its page."""
        answer = browser.get("/hub/spawn")
        deadline = time.monotonic() + patience_s
        while not answer.url.path.startswith(f"/user/{user}/"):
            assert answer.status_code < 400, answer.text[-2000:]
            assert time.monotonic() < deadline, answer.text[-2000:]
            time.sleep(0.3)
            answer = browser.get(f"/hub/spawn-pending/{user}")


@contextmanager
def hub_alone(installation: Installation, roles: tuple[str, ...] = ROLES) -> Iterator[HubAlone]:
    """The hub of ``installation``, as long as the block lasts."""
    supervisor = start(installation, roles)
    found = HubAlone(installation)
    try:
        until(found.answers, "the hub answers through the proxy")
        yield found
    finally:
        stop(installation)
        supervisor.wait()
