"""What systemd and Docker are told to start: their spawners' own classes, made and set up as the hub does.

Neither runs here.  ``systemd-run`` is a stand-in that writes down its arguments, Docker's daemon one that answers its
API; systemd's own checker, where it is installed, reads the unit that would come of it.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.objects import Hub
from systemdspawner import systemd
from traitlets.config import Config

from edif_hub import server, spawners, start_watch
from edif_hub.settings import HubSettings, ServerSettings
from edif_hub.start_queue import StartQueue
from edif_protocol.installation import Installation

KEY = "the-key-of-the-kernels"
GIB = 1024**3


@pytest.fixture(autouse=True)
def _reached_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is started, so nothing listens."""

    async def listens(ip: str, port: int) -> bool:
        return True

    monkeypatch.setattr(start_watch, "_listens", listens)
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))


def _spawner(settings: ServerSettings, installation: Installation, user: str) -> Any:
    """A spawner as ``jupyterhub_config.py`` sets it up and the hook before a start leaves it."""
    made: Any = spawners.spawner_class(settings, StartQueue(1))
    config = Config({made.__name__: spawners.traits(settings, installation)})
    config.Spawner.cmd = spawners.command(settings)
    config.Spawner.environment = server.environment(installation, settings, HubSettings())
    person = SimpleNamespace(name=user, id=1, url=f"/user/{user}/", escaped_name=user)
    hub = Hub(ip="127.0.0.1", port=8081, base_url="/hub/")
    spawner = made(config=config, user=person, hub=hub, api_token="token-of-the-server")
    spawner.environment = {**spawner.environment, **spawners.variables(settings), "NDIF_API_KEY": KEY}
    spawners.apply_profile(settings, spawner, {"profile": "medium"})
    return spawner


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``systemd-run`` leaves its arguments, one a line; units run once they were started."""
    programs, said = tmp_path / "programs", tmp_path / "said"
    programs.mkdir()
    state = f'case "$1" in --version) echo "systemd 252 (252)";; is-active) test -e "{said}";; *) false;; esac'
    for name, does in {"systemd-run": f'printf "%s\\n" "$@" > "{said}"', "systemctl": state}.items():
        (programs / name).write_text(f"#!/bin/sh\n{does}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr(systemd, "RUN_ROOT", str(tmp_path))
    systemd.get_systemd_version.cache_clear()
    return said


def test_what_systemd_is_told(told: Path, tmp_path: Path) -> None:
    user = getpass.getuser()
    spawner = _spawner(ServerSettings(spawner="systemd"), Installation(home=tmp_path), user)
    ip, _ = asyncio.run(spawner.start())
    assert ip == "127.0.0.1"
    line = told.read_text().splitlines()
    account = pwd.getpwnam(user)
    assert {f"--uid={account.pw_uid}", f"--gid={account.pw_gid}", f"jupyter-{user}-singleuser"} <= set(line)
    assert line[line.index("--working-directory") + 1] == account.pw_dir
    assert line[-3:] == [sys.executable, "-m", "edif_hub.user_server"]
    properties = [entry.removeprefix("--property=") for entry in line if entry.startswith("--property=")]
    assert {
        f"MemoryMax={8 * GIB}",
        "CPUQuota=200%",
        "PrivateTmp=yes",
        "NoNewPrivileges=yes",
        "OOMPolicy=continue",  # a kernel that takes too much ends, not its server
    } <= set(properties)

    [file] = [Path(one.partition("=")[2]) for one in properties if one.startswith("EnvironmentFile=")]
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    variables = file.read_text()
    assert f"NDIF_API_KEY={KEY}\n" in variables
    assert "JUPYTERHUB_API_TOKEN=token-of-the-server\n" in variables
    assert "EDIF_SERVER_PAGE_URL=/services/edif/\n" in variables
    assert KEY not in told.read_text()  # everybody reads the arguments of a process
    _understood_by_systemd(properties, tmp_path)


def _understood_by_systemd(properties: list[str], tmp_path: Path) -> None:
    """Its checker finds no fault with a unit of these properties; it reads files, and starts nothing."""
    if shutil.which("systemd-analyze") is None:
        return
    unit = tmp_path / "edif-try.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n" + "".join(f"{one}\n" for one in properties))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert [line for line in found.stderr.splitlines() if "edif-try" in line] == []


class Daemon(BaseHTTPRequestHandler):
    """As much of Docker's API as a start needs; ``made`` is what a container was asked to be."""

    made: dict[str, Any]

    def do_GET(self) -> None:
        path = self.path.partition("/v1.44")[2] or self.path
        if path == "/version":
            self._answer(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24"})
        elif path.startswith("/images/"):
            self._answer(200, {"Id": "sha256:1", "Config": {"Cmd": ["what the image would run"]}})
        elif path.startswith("/containers/c1/"):
            network = {"IPAddress": "172.17.0.2", "Networks": {"bridge": {"IPAddress": "172.17.0.2"}}}
            self._answer(200, {"Id": "c1", "NetworkSettings": network, "State": {"Running": True}})
        else:
            self._answer(404, {"message": "No such container"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "/containers/create" in self.path:
            type(self).made = json.loads(body) | {"name": self.path.partition("name=")[2]}
            self._answer(201, {"Id": "c1", "Warnings": []})
        else:
            self._answer(204, None)

    def _answer(self, status: int, said: Any) -> None:
        body = b"" if said is None else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *said: object) -> None:
        """Nothing."""


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Daemon]]:
    with HTTPServer(("127.0.0.1", 0), Daemon) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listening.server_port}")
        yield Daemon
        listening.shutdown()
        thread.join()


async def test_what_docker_is_told(daemon: type[Daemon], tmp_path: Path) -> None:
    spawner = _spawner(ServerSettings(spawner="docker"), Installation(home=tmp_path), "ada")
    try:
        assert await spawner.start() == ("172.17.0.2", 8888)
    finally:
        spawner.client.close()
        spawner.executor.shutdown()
        type(spawner)._client = type(spawner)._executor = None  # the class keeps one of each for all
    made = daemon.made
    assert (made["Image"], made["Cmd"], made["name"]) == ("edif/user-server:latest", ["edif-server"], "jupyter-ada")
    limits = made["HostConfig"]
    assert limits["Memory"] == 8 * GIB
    assert limits["CpuQuota"] / limits["CpuPeriod"] == 2
    assert limits["AutoRemove"] is True
    assert limits["Binds"] == ["edif-home-ada:/srv/home:rw"]
    assert not limits.get("PortBindings")  # reached inside Docker's network, by nobody else
    assert not limits.get("Privileged")
    variables = dict(one.split("=", 1) for one in made["Env"])
    assert variables["NDIF_API_KEY"] == KEY
    assert variables["HOME"] == variables["JUPYTERHUB_ROOT_DIR"] == "/srv/home"  # tutorials and settings stay too
