"""Is there room in the user's home?  A full disk or a spent quota is said, and never keeps a server from starting.

Called at the start of a user server; runs as the user.  Without room the server starts in *rescue*: everything that
JupyterLab and kernels write by themselves goes to a folder in memory, so the user can look around and delete files.
The folder goes with the server.  One that was killed leaves it behind, but no longer holds its lock: the next server of
the account, and the hub's housekeeping, remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

MIB = 1024 * 1024

_PROBE_BYTES = 64 * 1024
_RESCUE = "edif-rescue-"
#: Where JupyterLab and kernels write by themselves: variables, and the folders of a rescue that they then name.
_FOLDERS = {
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


class Rescue:
    """A folder in memory for one server, and the variables that move all that is written by itself there."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix=_RESCUE, dir=_memory()))
        self._held = _hold(self.place)

    @property
    def variables(self) -> dict[str, str]:
        """The variables, their folders made."""
        for name in _FOLDERS.values():
            (self.place / name).mkdir(exist_ok=True)
        return {variable: str(self.place / name) for variable, name in _FOLDERS.items()}

    def end(self) -> None:
        """Remove the folder; the server is over."""
        shutil.rmtree(self.place, ignore_errors=True)
        if self._held is not None:
            os.close(self._held)
            self._held = None


def remove_left_rescues() -> list[Path]:
    """Remove what this account's servers that were killed have left in memory; gives the folders."""
    removed = []
    for place in _memory().glob(f"{_RESCUE}*"):
        with contextlib.suppress(OSError):
            # One without anything in it is just being made.
            if place.lstat().st_uid != os.getuid() or not any(place.iterdir()):
                continue
            if (held := _hold(place)) is not None:
                shutil.rmtree(place, ignore_errors=True)
                os.close(held)
                removed.append(place)
    return removed


def _memory() -> Path:
    memory = Path("/dev/shm")  # noqa: S108 (private folders are made below it)
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


def _hold(place: Path) -> int | None:
    """Lock the folder as long as this process lives; None if another process does."""
    held = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held
