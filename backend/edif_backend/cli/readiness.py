"""Whether an installation serves, and what it still waits for.

Called by ``edif up``, which waits for it, and ``edif status``.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from edif_backend.cli.programs import log_file
from edif_backend.cli.supervision import ProgramState, states
from edif_backend.errors import SetupFailed
from edif_backend.jobs import open_jobs
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

_LOG_LINES = 12
_PAUSE_S = 0.3

#: What needs more starts than this will not mend itself.  Ray gives up when it was not up within 30 s, which a busy
#: machine's next start mends, and the dispatcher may have to wait for Ray.
_STARTS = 3
_STARTS_OF_THE_SLOW = 6
_SLOW = ("ray", "dispatcher")


@cache
def _client() -> httpx.Client:
    """For this machine's own addresses; made once, for each new one reads all certificate authorities anew."""
    return httpx.Client(timeout=5, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def gateway_status(installation: Installation) -> dict[str, Any] | None:
    """The gateway's ``/status``, or None when it does not answer."""
    try:
        answer = _client().get(f"{installation.url('gateway')}/status")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError):
        return None
    return found


def waiting_for(installation: Installation, deployed_since: float = 0.0) -> str | None:
    """What is not there yet, in words that follow "waiting for"; None when everything serves.

    ``deployed_since`` (seconds since the epoch) sets aside what an earlier dispatcher has written of its models.
    """
    if not _answers(f"{installation.url('hub')}/hub/api/", 200):
        return "the hub"
    if not _answers(f"{installation.url('proxy')}/hub/api/", 200):
        return "the proxy"
    if not _answers(f"{installation.url('gateway')}/ping", 200):
        return "the gateway"
    if not _answers(f"{installation.url('courses')}/ping", 200):
        return "the courses"
    status = gateway_status(installation)
    if status is None:
        return "the gateway"
    pinned = {name for name, model in status["deployments"].items() if model["pinned"]}
    for name, model in _deployments(installation, deployed_since).items():
        if model == "RUNNING":
            pinned.discard(name)
    if pinned:
        return f"the model {min(pinned)} (Ray starts, then it is loaded)"
    if not _answers(f"{installation.url('gateway')}/connected", 200):
        return "the dispatcher"
    return None


def _deployments(installation: Installation, since: float) -> dict[str, str]:
    jobs = open_jobs(installation.jobs_database, url=BackendSettings().database_url)
    try:
        return {name: found.state for name, found in jobs.deployments().items() if found.seen_at >= since}
    finally:
        jobs.close()


def _answers(url: str, status: int) -> bool:
    try:
        return _client().get(url).status_code == status
    except httpx.HTTPError:
        return False


def wait_until_serving(installation: Installation, timeout_s: float, say: Callable[[str], None]) -> None:
    """Return when everything serves; says what is waited for whenever that changes.

    Raises:
        SetupFailed: a program keeps dying, the supervisor ended, or the time is over; with the end of a log.
    """
    began_at = time.time()
    deadline = time.monotonic() + timeout_s
    starts: set[tuple[str, int]] = set()
    said: str | None = None
    while True:
        found = states(installation)
        if found is None:
            raise SetupFailed(f"The supervisor was stopped meanwhile; see {log_file(installation, 'supervisor')}.")
        for program in found:
            starts.add((program.role, program.started_at))
            allowed = _STARTS_OF_THE_SLOW if program.role in _SLOW else _STARTS
            if sum(role == program.role for role, _ in starts) > allowed:
                raise SetupFailed(_died(installation, program))
        missing = waiting_for(installation, began_at)
        if missing is None:
            return
        if missing != said:
            say(f"waiting for {missing} ...")
            said = missing
        if time.monotonic() > deadline:
            raise SetupFailed(_late(installation, missing, timeout_s, found))
        time.sleep(_PAUSE_S)


def _died(installation: Installation, program: ProgramState) -> str:
    return (
        f"The program {program.role} keeps ending right after its start. The end of its log:\n"
        f"{_tail(installation, program.role)}\nMend what it names, then try again; `edif doctor` checks the rest. "
        f"The whole log: {log_file(installation, program.role)}"
    )


def _late(installation: Installation, missing: str, timeout_s: float, found: list[ProgramState]) -> str:
    troubled = [program.role for program in found if program.state != "RUNNING"]
    role = troubled[0] if troubled else "dispatcher" if "model" in missing else missing.removeprefix("the ")
    return (
        f"Not serving after {timeout_s:.0f} s: still waiting for {missing}. The end of the log of the {role}:\n"
        f"{_tail(installation, role)}\nA slow machine may only need more time: try again, or `edif up --timeout 600`."
    )


def _tail(installation: Installation, role: str) -> str:
    lines = last_lines(log_file(installation, role), _LOG_LINES)
    return "\n".join(f"    {line[:300]}" for line in lines) or "    (empty)"


def last_lines(path: Path, count: int) -> list[str]:
    """The end of a log file; nothing if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64 * 1024))
            return file.read().decode("utf-8", "replace").splitlines()[-count:]
    except OSError:
        return []
