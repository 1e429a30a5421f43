"""Two universities' login services for tests: npm's oidc-provider, run by ``e2e/idp/server.mjs``.

Accounts and their claims, forged tokens and outages are ordered over a control port.  ``./edif test`` installs the
package; when it is missing, :class:`~tests.services.NotInstalled` says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from tests.services import NotInstalled, free_ports

FOLDER = Path(__file__).parent / "e2e" / "idp"
SECRET = "made-up-client-secret-of-the-tests"
PASSWORD = "correct horse"


@dataclass
class LoginService:
    """One university."""

    id: str
    port: int
    _control: str

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def account(self, login: str, **claims: Any) -> None:
        """An account of that login name, with these claims from now on."""
        told = {"sub": login, "name": login.title(), "preferred_username": login, **claims}
        self._order(accounts={login: {"password": PASSWORD, "claims": told}})

    def delete(self, login: str) -> None:
        self._order(accounts={login: None})

    def forge(self, **how: Any) -> None:
        """Change id_tokens from now on: ``header``, ``payload``, ``stranger=True`` for another key; nothing: stop."""
        self._order(forge=how or None)

    def stop(self) -> None:
        self._order(up=False)

    def start(self) -> None:
        self._order(up=True)

    def _order(self, **what: Any) -> None:
        httpx.post(self._control, json={"service": self.id, **what}, timeout=20).raise_for_status()


@contextmanager
def login_services(*hubs: str) -> Iterator[dict[str, LoginService]]:
    """The services ``alpha`` and ``beta``, which know the hub by these addresses, as long as the block lasts."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules").is_dir():
        raise NotInstalled("the login services of the tests are not installed: ./edif test, or npm ci in tests/e2e/idp")
    control, *ports = free_ports(3)
    listed = [{"id": id, "port": port} for id, port in zip(("alpha", "beta"), ports, strict=True)]
    settings = {"hubs": hubs, "secret": SECRET, "control": control, "services": listed}
    process = subprocess.Popen(
        [node, "server.mjs", json.dumps(settings)],
        cwd=FOLDER,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin"},
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        while said and said.strip() != "ready":
            said = process.stdout.readline()
        assert said, "the login services do not start"
        yield {each["id"]: LoginService(each["id"], each["port"], f"http://127.0.0.1:{control}") for each in listed}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
