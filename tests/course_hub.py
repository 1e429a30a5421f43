"""A hub with its courses and without the backend (:mod:`tests.hub_alone`), and people in browsers without a script."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
from tests.hub_alone import HubAlone, hub_alone, until

from edif_protocol.installation import Installation

if TYPE_CHECKING:
    from conftest import Workbench

ROLES = ("proxy", "hub", "courses")
ROOT = "/services/courses/"


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
    hub: HubAlone
    _opened: ExitStack
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
            self._browsers[user] = Browser(self._opened.enter_context(self.hub.browser(user)), user)
        return self._browsers[user]

    def start_server(self, user: str) -> None:
        """Start the user's server as a browser does, and wait for it."""
        self.hub.start(self.browser(user).client, user)

    def groups(self, user: str) -> set[str]:
        """The hub's groups of a user."""
        with self.hub.api() as api:
            return set(api.get(f"/users/{user}").json()["groups"])


@contextmanager
def course_hub(workbench: Workbench) -> Iterator[CourseHub]:
    """The hub and courses of ``workbench``, as long as the block lasts."""
    installation = workbench.installation
    with hub_alone(installation, ROLES) as hub, ExitStack() as opened:
        until(lambda: hub.answers("/services/courses/page.css"), "the course service answers")
        yield CourseHub(workbench, hub, opened)
