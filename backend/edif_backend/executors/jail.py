"""The jail's outer wall: how a zygote is started, by bubblewrap, so that nothing of the machine is within its reach.

No network, no home, no other process, no environment but an allowlist, a read-only system, the one model's folder and a
``/tmp`` of its own.  Works as root and as an ordinary user, without Docker.  Called by the replica's process and by
``edif doctor``.  (The inner wall between executors is :mod:`~edif_backend.executors.walls`.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from edif_backend.errors import JailUnavailable

#: Inside, everything runs as this user and group, which own nothing.
JAILED_ID = 1000

_MEND = (
    "On Debian or Ubuntu: apt-get install bubblewrap; "
    "user namespaces must be allowed (sysctl user.max_user_namespaces)."
)


def command(arguments: list[str], *, folders: list[Path], environment: dict[str, str]) -> list[str]:
    """The command line that runs ``python *arguments`` inside the jail.

    Args:
        folders: what else may be read (the model's folder).
        environment: variables beyond the fixed few.

    Raises:
        JailUnavailable: bubblewrap is not installed.
    """
    line = [
        _bubblewrap(),
        "--unshare-all",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--hostname",
        "executor",
    ]
    line += ["--unshare-user", "--uid", str(JAILED_ID), "--gid", str(JAILED_ID), "--cap-drop", "ALL"]
    line += [*_system(), "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    for folder in readable(folders):
        line += ["--ro-bind", str(folder), str(folder)]
    line += ["--chdir", "/tmp"]
    fixed = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(_code_folder("edif_backend")),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "1",
    }
    for name, value in {**fixed, **environment}.items():
        line += ["--setenv", name, value]
    return [*line, "--", sys.executable, "-P", *arguments]


def readable(folders: list[Path]) -> list[Path]:
    """What the jail shows besides the system: this Python, its packages, our own code, and ``folders``."""
    python = [Path(sys.prefix), Path(sys.base_prefix), _code_folder("edif_backend"), _code_folder("edif_protocol")]
    shown = [folder.resolve() for folder in [*python, *folders]]
    return list(dict.fromkeys(folder for folder in shown if not folder.is_relative_to("/usr")))


def check() -> None:
    """Close a trivial program in, to see whether this machine can.

    Raises:
        JailUnavailable: with what is missing and how to mend it.
    """
    line = command(["-c", "pass"], folders=[], environment={})
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JailUnavailable(f"Bubblewrap could not be started ({error}). {_MEND}") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise JailUnavailable(f"This machine cannot close user code in: {said}. {_MEND}")


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


def _code_folder(package: str) -> Path:
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]).parent
