"""The processes of one installation, found by how they were started, and their end.

Called by ``edif pids``, ``down`` and ``up``, and by :mod:`edif_backend.cli.ray_node` before it starts Ray.

A process belongs to an installation when ``EDIF_HOME`` and ``EDIF_ROLE`` in its environment say so; both are needed,
they are known by the log files they hold open.  Children of all these belong too, whatever their environment.
they are known by the log files they hold open.  Children of all these belong too, whatever environment they were given.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from edif_backend.cli.located import short_dir
from edif_protocol.installation import Installation

#: Roles that live and die with the Ray node.
RAY_ROLES = frozenset({"ray", "replica", "jail", "zygote", "executor"})

#: How executors (forked from a zygote) and kernels are started, as their command lines show it.
_ZYGOTE = "-m edif_backend.executors.zygote"
_KERNEL = "-m edif_kernel"

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


@dataclass(frozen=True, slots=True)
class Member:
    """One process of an installation."""

    pid: int
    role: str
    started_at: float  #: seconds since the epoch
    memory_bytes: int  #: resident, pages shared with others included
    command: str


def members(installation: Installation) -> list[Member]:
    """Every process of the installation, oldest first."""
    found = {process.pid: (process, role) for process, role in _marked(installation)}
    unseen = list(found.values())
    while unseen:
        process, role = unseen.pop()
        for child in _children(process):
            if child.pid not in found:
                found[child.pid] = (child, role)
                unseen.append((child, role))
    own = {process.pid for process in (psutil.Process(), *psutil.Process().parents())}
    described = (_describe(process, role) for pid, (process, role) in found.items() if pid not in own)
    return sorted((member for member in described if member), key=lambda member: (member.started_at, member.pid))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except _GONE:
        return []


def end_members(installation: Installation, roles: Iterable[str] | None = None, grace_s: float = 5.0) -> int:
    """End every process of the installation (of ``roles`` alone if given), politely first; returns how many there were.

    Repeats until none is left: a process may have started another one while it was being ended.
    """
    wanted = None if roles is None else frozenset(roles)
    ended: set[int] = set()
    deadline = time.monotonic() + 4 * grace_s
    while time.monotonic() < deadline:
        chosen = [member for member in members(installation) if wanted is None or member.role in wanted]
        if not chosen:
            break
        ended |= {member.pid for member in chosen}
        _end([member.pid for member in chosen], grace_s)
    return len(ended)


def _end(pids: list[int], grace_s: float) -> None:
    processes: list[psutil.Process] = []
    for pid in pids:
        with contextlib.suppress(*_GONE):
            process = psutil.Process(pid)
            process.terminate()
            processes.append(process)
    _, stubborn = psutil.wait_procs(processes, timeout=grace_s)
    for process in stubborn:
        with contextlib.suppress(*_GONE):
            process.kill()
    psutil.wait_procs(stubborn, timeout=grace_s)


def _marked(installation: Installation) -> Iterable[tuple[psutil.Process, str]]:
    home = str(installation.home)
    ray_files = str(short_dir(installation)) + "/"
    for process in psutil.process_iter():
        with contextlib.suppress(*_GONE):
            environment = process.environ()
            role = environment.get("EDIF_ROLE")
            if role and environment.get("EDIF_HOME") == home:
                yield process, role
            elif not environment and process.name().startswith("ray::") and _has_open(process, ray_files):
                yield process, "ray"


def _has_open(process: psutil.Process, prefix: str) -> bool:
    return any(file.path.startswith(prefix) for file in process.open_files())


def _describe(process: psutil.Process, role: str) -> Member | None:
    try:
        with process.oneshot():
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
            command = _command(process)
            return Member(
                pid=process.pid,
                role=_refine(process, command, role),
                started_at=process.create_time(),
                memory_bytes=process.memory_info().rss,
                command=command,
            )
    except _GONE:
        return None


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline()) or process.name()


def _refine(process: psutil.Process, command: str, role: str) -> str:
    """What the environment cannot say: Ray starts replicas itself, and what is jailed has no environment."""
    if command.startswith("ray::Replica"):
        return "replica"
    if _ZYGOTE in command:
        parent = process.parent()
        if process.name() == "bwrap":
            return "jail"
        return "executor" if parent and parent.name() != "bwrap" and _ZYGOTE in _command(parent) else "zygote"
    if _KERNEL in command:
        return "kernel"
    return role


def owner_of_port(port: int) -> str | None:
    """``name (pid N)`` of whoever listens on TCP ``port``, as far as this account may know."""
    with contextlib.suppress(*_GONE, OSError):
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr.port == port:
                if connection.pid is None:
                    return None
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    return None
