"""A real user server on a real hub: idle ones go, busy ones stay however silent, and a full disk keeps nobody out."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import websocket
from tests.conftest import installation
from tests.hub_alone import HubAlone, hub_alone, until

#: Long enough for a loaded machine to start a kernel in, short enough to be waited for.
IDLE_S = 25
#: Where a server in rescue writes.
MEMORY = Path("/dev/shm")  # noqa: S108 (looked at, not written to)
#: The home of a user whose name begins with "full" is a file system of 4 MiB with nothing left.
START = (
    'case "$USER" in full*) exec bwrap --die-with-parent --dev-bind / / --size 4194304 --tmpfs "$HOME" '
    """sh -c "cat /dev/zero > large.bin 2>/dev/null; exec '$0' -m edif_hub.user_server";; """
    """*) exec "$0" -m edif_hub.user_server;; esac"""
)
SETTINGS = f"""
[servers]
idle_after_s = {IDLE_S}
warn_before_s = 15
look_s = 1
[servers.options]
cmd = ["sh", "-c", {json.dumps(START)}, "{sys.executable}"]
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubAlone]:
    with installation("user-server") as installed:
        installed.installation.config_file.write_text(SETTINGS)
        with hub_alone(installed.installation) as running:
            yield running


class Server:
    """One user's Jupyter server, asked with its user's cookies."""

    def __init__(self, browser: httpx.Client, user: str) -> None:
        self._browser, self._root = browser, f"/user/{user}"

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        xsrf = next(
            (
                cookie.value
                for cookie in self._browser.cookies.jar
                if (cookie.name, cookie.path) == ("_xsrf", f"{self._root}/")
            ),
            "",
        )
        return self._browser.request(method, f"{self._root}/{path}", json=body, headers={"X-XSRFToken": xsrf or ""})

    def workbench(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("GET", "edif/workbench").json()
        return found

    def busy_kernel(self, seconds: float) -> None:
        """Start a kernel that computes and says nothing, and leave it alone."""
        kernel = self.ask("POST", "api/kernels", {"name": "edif"}).json()["id"]
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._browser.cookies.jar)
        address = f"{str(self._browser.base_url).replace('http', 'ws', 1)}{self._root}/api/kernels/{kernel}/channels"
        line = websocket.create_connection(address, cookie=cookies, timeout=90)
        header = {
            "msg_id": uuid.uuid4().hex,
            "msg_type": "execute_request",
            "username": "",
            "session": "s",
            "version": "5.3",
        }
        content = {"code": f"import time; time.sleep({seconds})", "silent": False, "store_history": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "content": content}
        line.send(json.dumps(message))
        while True:
            heard = json.loads(line.recv())
            if (
                heard["content"].get("execution_state") == "busy"
                and heard["parent_header"].get("msg_id") == header["msg_id"]
            ):
                break
        line.close()


@pytest.mark.timeout(300)
def test_an_idle_server_is_stopped_after_a_warning_and_a_busy_one_is_not(hub: HubAlone) -> None:
    with hub.browser("busy") as browser, hub.browser("idle") as other:
        hub.start(browser, "busy")
        busy = Server(browser, "busy")
        busy.busy_kernel(600)
        busy_since = time.monotonic()
        hub.start(other, "idle")
        idle = Server(other, "idle")
        assert idle.ask("POST", "edif/workbench").status_code == 204  # somebody is there: counted from now
        assert idle.workbench()["warned"] is False
        until(lambda: idle.workbench()["warned"], "the warning", IDLE_S)  # asking is no activity
        until(lambda: hub.server("idle") is None, "the end of the idle server", 60)
        assert time.monotonic() - busy_since > IDLE_S
        found = hub.server("busy")
        assert found is not None
        assert found["ready"]
        assert busy.workbench()["warned"] is False


def test_a_server_that_is_stopped_ends_its_kernels_in_order(hub: HubAlone) -> None:
    with hub.browser("tidy") as browser, hub.api() as api:
        hub.start(browser, "tidy")
        kernel = Server(browser, "tidy").ask("POST", "api/kernels", {"name": "edif"}).json()["id"]
        [connection] = (hub.installation.hub_dir / "users" / "tidy").rglob(f"kernel-{kernel}.json")
        api.delete("/users/tidy/server")
        until(lambda: hub.server("tidy") is None, "the end of the server")
        assert not connection.exists()  # a kernel that only finds its server gone leaves it behind


def test_a_full_disk_keeps_nobody_out_and_can_be_cleared(hub: HubAlone) -> None:
    before = set(MEMORY.glob("edif-rescue-*"))
    with hub.browser("fullada") as browser:
        hub.start(browser, "fullada")
        server = Server(browser, "fullada")
        [notice] = server.workbench()["notices"]
        assert "The disk of your files is full" in notice
        content = {"type": "file", "format": "text", "content": "x" * 100_000}
        assert server.ask("PUT", "api/contents/new.txt", content).status_code >= 400
        assert "large.bin" in server.ask("GET", "api/contents/").text
        assert server.ask("DELETE", "api/contents/large.bin").status_code == 204
        assert server.ask("PUT", "api/contents/new.txt", content).status_code in (200, 201)
    [rescue] = set(MEMORY.glob("edif-rescue-*")) - before
    with hub.api() as api:
        api.delete("/users/fullada/server")
    until(lambda: not rescue.exists(), "the end of what a server in rescue has in memory")


def test_a_tutorial_is_put_back_and_what_was_made_of_it_kept(hub: HubAlone) -> None:
    with hub.browser("resetter") as browser:
        hub.start(browser, "resetter")
        server = Server(browser, "resetter")
        assert server.ask("GET", "").url.path == "/user/resetter/lab/tree/tutorials/00_hello.ipynb"
        path = "tutorials/00_hello.ipynb"
        original = server.ask("GET", f"api/contents/{path}").json()["content"]
        mine = {**original, "cells": original["cells"][:1]}
        assert server.ask("PUT", f"api/contents/{path}", {"type": "notebook", "content": mine}).status_code == 200
        kept = server.ask("POST", "edif/reset", {"name": "00_hello.ipynb"}).json()["kept"]
        assert server.ask("GET", f"api/contents/{path}").json()["content"] == original
        assert len(server.ask("GET", f"api/contents/tutorials/{kept}").json()["content"]["cells"]) == 1
        missing = server.ask("POST", "edif/reset", {"name": "../.bashrc"})
        assert missing.status_code == 404
        assert "is not one of the tutorials" in missing.json()["message"]
