"""A hub with its courses and without the backend: proxy, hub and course service under the real supervisor.

For tests of courses; it starts in a few seconds, where a whole workbench takes half a minute.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from edif_backend.cli.located import make_short_dir, remember_port
from edif_backend.cli.programs import programs, supervisor_config
from edif_backend.cli.supervision import stop
from edif_protocol.installation import Installation

if TYPE_CHECKING:
    from conftest import Workbench

ROLES = ("proxy", "hub", "courses")
ROOT = "/services/courses/"


def until(true: Callable[[], Any], what: str, patience_s: float = 120) -> None:
    """Wait until ``true()``."""
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.2)


@dataclass
class Browser:
    """Somebody's browser without a script, logged in."""

    client: httpx.Client
    user: str

    def get(self, path: str) -> httpx.Response:
        """A page of the courses."""
        return self.client.get(f"{ROOT}{path}")

    def send(self, path: str, page: str | None = None, files: Any = None, **fields: str) -> httpx.Response:
        """Send a form with the proof that the page ``page`` (or the index) has in its forms."""
        shown = self.get(page if page is not None else "").text
        found = re.search(r'name="proof" value="([0-9a-f]{64})"', shown)
        assert found, shown
        sent = {"proof": found[1], **fields}
        answer = self.client.post(f"{ROOT}{path}", data=sent, files=files, follow_redirects=False)
        # Followed by hand: httpx would name the form's type again on the way, and the proxy look for a form.
        return self.client.get(answer.headers["location"]) if answer.is_redirect else answer


@dataclass
class CourseHub:
    """The running hub, and its people's browsers."""

    workbench: Workbench
    _browsers: dict[str, Browser] = field(default_factory=dict)

    @property
    def installation(self) -> Installation:
        """Its folder, ports and secrets."""
        return self.workbench.installation

    def edif(self, *arguments: str) -> str:
        """What ``edif ARGUMENTS…`` prints, once it has succeeded."""
        done = self.workbench.edif(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def browser(self, user: str) -> Browser:
        """The browser of ``user``, the same for the whole run."""
        if user not in self._browsers:
            client = httpx.Client(base_url=self.installation.url("proxy"), follow_redirects=True, timeout=60)
            token = re.search(r'name="_xsrf" value="([^"]*)"', client.get("/hub/login").text)
            assert token
            password = self.installation.secret("admin-password" if user == "admin" else "user-password")
            form = {"_xsrf": token[1], "username": user, "password": password}
            assert client.post("/hub/login?next=/hub/home", data=form).url.path == "/hub/home"
            self._browsers[user] = Browser(client, user)
        return self._browsers[user]

    def start_server(self, user: str) -> None:
        """Start the user's server as a browser does, and wait for it."""
        client = self.browser(user).client
        client.get("/hub/spawn")
        until(lambda: client.get(f"/user/{user}/lab").url.path == f"/user/{user}/lab", f"the server of {user} runs")

    def groups(self, user: str) -> set[str]:
        """The hub's groups of a user."""
        token = self.installation.secret("hub-admin-token")
        url = f"{self.installation.url('hub')}/hub/api/users/{user}"
        return set(httpx.get(url, headers={"Authorization": f"token {token}"}, timeout=30).json()["groups"])

    def close(self) -> None:
        """Close all browsers."""
        for browser in self._browsers.values():
            browser.client.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def course_hub(workbench: Workbench) -> Iterator[CourseHub]:
    """The hub and courses of ``workbench``, as long as the block lasts."""
    installation = workbench.installation
    make_short_dir(installation)
    for folder in (installation.run_dir, installation.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = installation.run_dir / "supervisor.conf"
    chosen = [program for program in programs(installation) if program.role in ROLES]
    config.write_text(supervisor_config(installation, chosen))
    remember_port(installation)
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)],
        stdin=subprocess.DEVNULL,
        env=installation.child_environment("supervisor"),
        start_new_session=True,
    )
    found = CourseHub(workbench)
    try:
        until(lambda: _answers(f"{installation.url('proxy')}/hub/api/"), "the hub answers through the proxy")
        until(lambda: _answers(f"{installation.url('courses')}/ping"), "the course service answers")
        yield found
    finally:
        found.close()
        stop(installation)
        supervisor.wait()
