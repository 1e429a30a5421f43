"""Is there room in the user's home?  A full disk or a spent quota is said, and never keeps a server from starting.

Called at the start of a user server; runs as the user.  Without room the server starts in *rescue*: everything that
JupyterLab and kernels write by themselves goes to a folder in memory, so the user can look around and delete files.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024

_PROBE_BYTES = 64 * 1024
_MEND = (
    "Delete files you no longer need (in JupyterLab's file browser), then restart the server: File, Hub Control Panel."
)


def lack_of_room(home: Path, home_bytes: int, reserve_bytes: int) -> str | None:
    """Why nothing should be written to ``home``, as a sentence for its user; None when there is room.

    Args:
        home_bytes: what the user's files may take, 0 for any size.
        reserve_bytes: less than this left on the disk counts as full.
    """
    if home_bytes and (used := size_of(home)) > home_bytes:
        return f"Your files take {used // MIB} MiB, and may take {home_bytes // MIB} MiB. Nothing was lost. {_MEND}"
    left = shutil.disk_usage(home).free
    if left < reserve_bytes or not _can_write(home):
        return f"The disk of your files is full ({left // MIB} MiB left), so nothing can be saved. {_MEND}"
    return None


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``; links are not followed, and a file in two places counts once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for found in _files(folder):
        if (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            total += found.st_blocks * 512
    return total


def _files(folder: Path) -> Iterator[os.stat_result]:
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                yield (Path(parent) / name).lstat()


def _can_write(home: Path) -> bool:
    """Whether a small file can be written, which quotas of the file system may forbid."""
    try:
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(bytes(_PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError:
        return False
    return True


def rescue_variables() -> dict[str, str]:
    """The variables that move all that is written by itself out of the home, into memory where there is some."""
    memory = Path("/dev/shm")  # noqa: S108 (a private folder is made below it)
    place = Path(tempfile.mkdtemp(prefix="edif-rescue-", dir=memory if os.access(memory, os.W_OK) else None))
    folders = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
        "XDG_CACHE_HOME": "cache",
        "HF_HOME": "huggingface",
        "TMPDIR": "tmp",
    }
    for name in folders.values():
        (place / name).mkdir()
    return {variable: str(place / name) for variable, name in folders.items()}
