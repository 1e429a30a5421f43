"""The jail's outer wall: how a zygote is started, by bubblewrap, so that nothing of the machine is within its reach.

No network, no home, no other process, no environment but an allowlist, a read-only system, the one model's folder and a
``/tmp`` of its own.  Works as root and as an ordinary user, without Docker.  Called by the replica's process and by
``edif doctor``.  (The inner wall between executors is :mod:`~edif_backend.executors.walls`.)
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from edif_backend.errors import JailUnavailable

#: Inside, everything runs as this user and group, which own nothing.
JAILED_ID = 1000
_SETGID, _SETUID, _SYS_ADMIN = 6, 7, 21

_MEND = (
    "On Debian or Ubuntu: apt-get install bubblewrap; "
    "user namespaces must be allowed (sysctl user.max_user_namespaces)."
)


def command(
    arguments: list[str], *, folders: list[Path], environment: dict[str, str], nodes: Sequence[str] = ()
) -> list[str]:
    """The command line that runs ``python *arguments`` inside the jail.

    Args:
        folders: what else may be read (the model's folder).
        environment: variables beyond the fixed few.
        nodes: devices of ``/dev`` that are there as well.

    Raises:
        JailUnavailable: bubblewrap is not installed, or a GPU's executors could not read a folder.
    """
    closed = _first_closed(readable(folders)) if _real_root() else None
    line = [_bubblewrap(), "--die-with-parent", "--new-session", "--clearenv"]
    if _real_root() and closed is None:
        # The user namespace's root would be the real one, which no process limit counts: it becomes another account
        # (capabilities.give_up_root), and each executor makes its user namespace by itself.
        line += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        line += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        if nodes:
            line += ["--cap-add", "CAP_SYS_ADMIN"]  # for capabilities.uncover_proc, and gone right after it
    elif nodes and closed:  # root's other way has covers over /proc that nothing can take away
        raise JailUnavailable(
            f"{closed} is for its owner alone, and a GPU's executors that root starts run as another account. Open it: "
            f"chmod -R a+rX {shlex.quote(str(closed))}. Or run the workbench as an ordinary user."
        )
    else:
        line += ["--unshare-all", "--unshare-user", "--uid", str(JAILED_ID), "--gid", str(JAILED_ID)]
        line += ["--cap-drop", "ALL"]
    line += ["--hostname", "executor", *_system(), "--proc", "/proc", "--dev", "/dev"]
    for node in nodes:
        line += ["--dev-bind-try", node, node]
    line += ["--perms", "1777", "--tmpfs", "/tmp"]
    shown = readable(folders)
    parents = dict.fromkeys(parent for folder in shown for parent in reversed(folder.parents))
    for parent in [parent for parent in parents if str(parent) not in ("/", "/tmp")]:
        line += ["--perms", "0755", "--dir", str(parent)]  # bubblewrap's own choice shuts out other accounts
    for folder in shown:
        line += ["--ro-bind", str(folder), str(folder)]
    line += ["--chdir", "/tmp"]
    fixed = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "LOGNAME": "executor",  # there is no list of accounts to ask, and CUDA builds of torch ask
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(map(str, _own_code()))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in {**fixed, **environment}.items():
        line += ["--setenv", name, value]
    return [*line, "--", sys.executable, "-P", *arguments]


def readable(folders: list[Path]) -> list[Path]:
    """What the jail shows besides the system: this Python, its packages, our own code, and ``folders``."""
    python = [Path(sys.prefix), Path(sys.base_prefix), *_own_code()]
    shown = [folder.resolve() for folder in [*python, *folders]]
    return list(dict.fromkeys(folder for folder in shown if not folder.is_relative_to("/usr")))


@dataclass(frozen=True, slots=True)
class Layers:
    """What holds user code in on this machine, found by closing a trial process in."""

    no_new_privileges: int = 0
    capabilities: int = 0  #: all dropped
    landlock: int = 0  #: the kernel's version of it
    seccomp: int = 0
    processes_counted: int = 0  #: RLIMIT_NPROC binds; it does not for real root

    @property
    def enough(self) -> bool:
        """Whether it is enough for more than one user: one of the two inner walls must stand behind the namespaces."""
        return bool(self.no_new_privileges and self.capabilities and (self.landlock or self.seccomp))

    def __str__(self) -> str:
        named = {"Landlock": self.landlock, "seccomp": self.seccomp, "the process limit": self.processes_counted}
        holding = ["namespaces", *(name for name, there in named.items() if there)]
        lacking = [name for name, there in named.items() if not there]
        return f"{', '.join(holding)} hold" + (f"; missing: {', '.join(lacking)}" if lacking else "")


def trial() -> Layers:
    """Close a trial process in as every executor is, to see what this machine can.

    Raises:
        JailUnavailable: with what is missing and how to mend it.
    """
    shown = [str(folder) for folder in readable([])]
    line = command(["-m", "edif_backend.executors.trial", *shown], folders=[], environment={})
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JailUnavailable(f"Bubblewrap could not be started ({error}). {_MEND}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise JailUnavailable(f"This machine cannot close user code in: {said}. {_MEND}")
    return Layers(**json.loads(done.stdout))


def insist(layers: Layers, accept_weak: bool) -> None:
    """Refuse to go on behind too few walls, unless the operator has accepted that.

    Raises:
        JailUnavailable: they are too few.
    """
    if not layers.enough and not accept_weak:
        raise JailUnavailable(
            f"The jail is too weak for user code ({layers}): neither Landlock nor seccomp is there. Use a newer "
            "kernel, or, where every user may be trusted with this account, set EDIF_BACKEND_ACCEPT_WEAK_JAIL=true."
        )


def _real_root() -> bool:
    """Whether this is root of the machine, not of a container's user namespace, and may change its account."""
    if os.geteuid() != 0 or Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"]:
        return False
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    rights = int(status["CapEff"], 16)
    return all(rights >> right & 1 for right in (_SETGID, _SETUID, _SYS_ADMIN))


def _first_closed(folders: list[Path]) -> Path | None:
    """The first of these folders, and of what lies directly in them, that another account could not read."""
    found = (entry for folder in folders for entry in (folder, *(folder.iterdir() if folder.is_dir() else ())))
    return next((entry for entry in found if entry.exists() and not entry.stat().st_mode & 0o004), None)


def _bubblewrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise JailUnavailable(f"Bubblewrap is not installed, so user code cannot be closed in and is not run. {_MEND}")
    return path


def _system() -> list[str]:
    """Read-only system folders, as links where the system has links (merged /usr)."""
    line = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/") / name
        if path.is_symlink():
            line += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            line += ["--ro-bind", str(path), str(path)]
    for file in ("/etc/ld.so.cache", "/etc/localtime"):
        line += ["--ro-bind-try", file, file]
    return line


def _own_code() -> list[Path]:
    """Folders of our packages that run in the jail; ``edif`` is what a traced block itself may import."""
    packages = ["edif_backend", "edif_protocol", *(["edif"] if find_spec("edif") else [])]
    return [_code_folder(package) for package in packages]


def _code_folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).parent
