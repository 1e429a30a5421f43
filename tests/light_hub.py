"""The hub and its proxy alone, for tests of logins: no gateway, no Ray, up in a few seconds.

The programs are those that ``edif up`` starts, with the same arguments and variables.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psutil
from tests.conftest import ARTIFACTS, free_port

from edif_backend.cli.programs import Program, programs
from edif_protocol.installation import Installation

_START_S = 90


@dataclass
class LightHub:
    """Hub and proxy of one installation."""

    installation: Installation
    _running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.installation.url("proxy")

    @property
    def url_by_name(self) -> str:
        """The same by a host name that browsers find on this machine, and any name below it."""
        return f"http://edif.localhost:{self.installation.ports['proxy']}"

    def pid(self, role: str) -> int:
        return self._running[role].pid

    def log(self, role: str = "hub") -> str:
        return (self.installation.logs_dir / f"{role}.log").read_text("utf-8", "replace")

    def configure(self, toml: str) -> None:
        """Write ``edif.toml``, as an operator would: for the eyes of its owner."""
        self.installation.config_file.write_text(toml, "utf-8")
        self.installation.config_file.chmod(0o600)

    def start(self, *roles: str) -> None:
        """Start what is not running and wait until the hub serves."""
        for program in programs(self.installation):
            if program.role in (roles or ("proxy", "hub")) and program.role not in self._running:
                self._running[program.role] = self._start(program)
        ends_at = time.monotonic() + _START_S
        while True:
            with suppress(httpx.HTTPError):
                name = {
                    "Host": self.url_by_name.removeprefix("http://")
                }  # where hosts are routed, only that one leads there
                if httpx.get(f"{self.url}/hub/health", headers=name, timeout=5).status_code == 200:
                    return
            dead = [role for role, process in self._running.items() if process.poll() is not None]
            assert not dead, f"{dead} ended at once:\n{self.log()[-3000:]}"
            assert time.monotonic() < ends_at, f"the hub does not start:\n{self.log()[-3000:]}"
            time.sleep(0.1)

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        self.installation.logs_dir.mkdir(parents=True, exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("EDIF_", "PYTEST_"))}
        environment = {**kept, **self.installation.environment(program.role), **program.environment}
        with (self.installation.logs_dir / f"{program.role}.log").open("ab") as log:
            return subprocess.Popen(
                program.command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/"
            )

    def stop(self, *roles: str, kill: bool = False) -> None:
        """Stop these, or all; user servers of the installation live on until :meth:`end`."""
        for role in roles or tuple(self._running):
            process = self._running.pop(role)
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            process.wait(30)

    def end(self) -> None:
        """Stop everything that runs for this installation."""
        self.stop(kill=True)
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("EDIF_HOME") == str(self.installation.home):
                    process.kill()


@contextmanager
def light_hub(name: str) -> Iterator[LightHub]:
    """A hub, not started yet; stopped and removed after the block, its logs kept."""
    home = ARTIFACTS / f"run-{os.getpid()}-{name}"
    home.mkdir(parents=True, mode=0o700)
    hub = LightHub(Installation(home=home, host="127.0.0.1", port=free_port()))
    try:
        yield hub
    finally:
        hub.end()
        kept = ARTIFACTS / "logs" / name
        shutil.rmtree(kept, ignore_errors=True)
        if hub.installation.logs_dir.is_dir():
            shutil.copytree(hub.installation.logs_dir, kept)
        shutil.rmtree(home)
