"""The supervisor of one installation: started, asked, stopped.

Called by ``edif up``, ``down`` and ``status``.  The supervisor is `supervisord`, an ordinary child that outlives the
command when that is wanted; it is asked over a Unix socket that this account alone may open.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.xmlrpc import SupervisorTransport

from edif_backend.cli.located import make_short_dir, remember_port, short_dir, supervisor_socket
from edif_backend.cli.processes import end_members
from edif_backend.cli.programs import ROLES, log_file, programs, supervisor_config
from edif_backend.errors import SetupFailed
from edif_protocol.installation import Installation

#: The supervisor itself, as ``edif pids`` lists it.
ROLE = "supervisor"

_START_S = 20.0
_STOP_S = 60.0


@dataclass(frozen=True, slots=True)
class ProgramState:
    """What the supervisor says of one program."""

    role: str
    state: str  #: STARTING, RUNNING, BACKOFF (died at once, is tried again), STOPPED …
    description: str
    pid: int | None
    started_at: int  #: seconds since the epoch; of the last try


def start(installation: Installation, roles: Collection[str] = ROLES) -> subprocess.Popen[bytes]:
    """Write the configuration, start the supervisor with the programs of these roles and return when it answers.

    Raises:
        SetupFailed: it ended at once, or does not answer.
    """
    shutil.rmtree(make_short_dir(installation), ignore_errors=True)  # of a supervisor that was killed
    make_short_dir(installation)
    for folder in (installation.run_dir, installation.logs_dir):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = installation.run_dir / "supervisor.conf"
    chosen = [program for program in programs(installation) if program.role in roles]
    _write_private(config, supervisor_config(installation, chosen))
    remember_port(installation)
    log = log_file(installation, ROLE)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "edif_backend.cli.watch", "-c", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=installation.child_environment(ROLE),
            start_new_session=True,  # Ctrl-C is for the command, which then stops the programs in order
        )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if states(installation) is not None:
            return process
        if process.poll() is not None:
            raise SetupFailed(f"The supervisor ended at once; {log} says why.")
        time.sleep(0.1)
    process.kill()
    raise SetupFailed(f"The supervisor does not answer; {log} may say why.")


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def states(installation: Installation) -> list[ProgramState] | None:
    """Every program's state, or None when no supervisor runs."""
    found = _call(installation, "supervisor.getAllProcessInfo")
    if found is None:
        return None
    return [
        ProgramState(info["name"], info["statename"], info["description"], info["pid"] or None, info["start"])
        for info in found
    ]


def _call(installation: Installation, method: str) -> Any:
    """The supervisor's answer, or None when nobody answers."""
    transport = SupervisorTransport(None, None, f"unix://{supervisor_socket(installation)}")
    # The address is never used: the transport knows the socket.
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
        try:
            return getattr(server, method)()
        except (OSError, xmlrpc.client.Error):
            return None
        finally:
            transport.close()


def stop(installation: Installation) -> int:
    """End every process of the installation; returns how many had to be ended besides what the supervisor stopped."""
    if _call(installation, "supervisor.shutdown") is not None:
        deadline = time.monotonic() + _STOP_S
        while time.monotonic() < deadline and states(installation) is not None:
            time.sleep(0.1)
    left = end_members(installation)
    with contextlib.suppress(FileNotFoundError):
        if short_dir(installation).lstat().st_uid == os.getuid():
            shutil.rmtree(short_dir(installation), ignore_errors=True)
    return left
