"""The spawner that the settings name, with its limits: local processes, systemd units, containers, Slurm jobs.

Called by ``jupyterhub_config.py``; runs in the hub's process.  Which of them keep a server to its profile:

========  ===============================================  ==========================================================
local     nothing is kept: processes of the hub's account  memory and cores of the machine are shared by all
systemd   memory and cores, by cgroup                      real Unix accounts; the hub runs as root
docker    memory and cores, by cgroup                      a volume for each home
batch     memory and cores, as Slurm is configured to      real accounts; ``options`` names partition and longest time
========  ===============================================  ==========================================================
"""

from __future__ import annotations

import importlib
import pwd
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException

from edif_hub.settings import MIB, Profile, ServerSettings
from edif_hub.start_queue import StartQueue
from edif_hub.start_watch import watched
from edif_protocol.installation import Installation

_CLASSES = {
    "local": "jupyterhub.spawner.SimpleLocalProcessSpawner",
    "systemd": "systemdspawner.SystemdSpawner",
    "docker": "dockerspawner.DockerSpawner",
    "batch": "batchspawner.SlurmSpawner",
}
#: Spawners whose servers run as an account of this machine's.
_WITH_ACCOUNTS = frozenset({"systemd", "batch"})
#: Spawners that bound memory and cores.
KEEPS_LIMITS = frozenset({"systemd", "docker", "batch"})

_HOME_IN_CONTAINER = "/srv/home"
_MEMORY_FILE = "/proc/meminfo"


def spawner_class(settings: ServerSettings, queue: StartQueue) -> type[Spawner]:
    """The class named by the settings, whose page tells the place in ``queue`` while a server waits for its turn."""
    module, _, name = _CLASSES[settings.spawner].rpartition(".")
    base: Any = getattr(importlib.import_module(module), name)

    class QueuedSpawner(watched(settings.spawner), base):  # type: ignore[misc]
        """A spawner that can say why a start has not begun, and why it came to nothing."""

        @property
        def waiting_words(self) -> str:
            """For the page that waits."""
            return self.words_while_starting() or queue.words(self._log_name)

        async def progress(self) -> AsyncIterator[dict[str, Any]]:
            """The same for who asks the hub's API."""
            yield {"progress": 10, "message": self.waiting_words}
            async for event in super().progress():
                yield event

    QueuedSpawner.__name__ = name  # settings for the class of that name count for this one
    return QueuedSpawner


def traits(settings: ServerSettings, installation: Installation) -> dict[str, Any]:
    """The chosen spawner's own settings; the operator's ``options`` go before."""
    scripts = str(Path(sys.executable).parent)  # batch jobs get no PATH from here; on nodes without it this is nothing
    own: dict[str, dict[str, Any]] = {
        "local": {"home_dir_template": str(installation.hub_dir / "users" / "{username}")},
        "systemd": {"isolate_tmp": True, "disable_user_sudo": True, "default_shell": "/bin/bash"},
        "docker": {
            "image": settings.image,
            "remove": True,
            "use_internal_ip": True,
            "notebook_dir": _HOME_IN_CONTAINER,
            "volumes": {"edif-home-{username}": _HOME_IN_CONTAINER},
        },
        "batch": {"req_prologue": f"umask 077\nexport PATH={shlex.quote(scripts)}:$PATH"},
    }
    return {**own[settings.spawner], **settings.options}


def variables(settings: ServerSettings) -> dict[str, str]:
    """What servers of this kind need to be told besides; a container's home is its volume, or tutorials were lost."""
    return {"HOME": _HOME_IN_CONTAINER} if settings.spawner == "docker" else {}


def command(settings: ServerSettings) -> list[str]:
    """What starts a server: this Python, or in a container or a batch job the script of that name there."""
    if settings.spawner in {"docker", "batch"}:
        return ["edif-server"]
    return [sys.executable, "-m", "edif_hub.user_server"]


def apply_profile(settings: ServerSettings, spawner: Spawner, chosen: dict[str, Any]) -> Profile:
    """Give the server the size that its user has chosen, or the first there is.

    Raises:
        SpawnException: there is no such size.
    """
    name = chosen.get("profile") or next(iter(settings.profiles))
    if name not in settings.profiles:
        known = ", ".join(settings.profiles)
        raise SpawnException(f"There is no server size “{name}”; there are: {known}.", reason="profile")
    profile = settings.profiles[name]
    spawner.user_options = {"profile": name}  # whatever else was asked for: batchspawner would write it into the job
    if settings.spawner in KEEPS_LIMITS:
        spawner.mem_limit = profile.memory_bytes
        spawner.cpu_limit = profile.cpus
    if settings.spawner == "batch":
        spawner.req_memory = f"{profile.memory_bytes // MIB}M"
        spawner.req_nprocs = str(max(1, round(profile.cpus)))
    return profile


def check_before_start(settings: ServerSettings, user: str, free_memory_bytes: int) -> None:
    """Whether a server of ``user`` can start at all; asked before it takes a turn.

    Raises:
        SpawnException: it cannot; the sentence says what its user can do.
    """
    if settings.spawner in _WITH_ACCOUNTS:
        try:
            pwd.getpwnam(user)
        except KeyError:
            raise SpawnException(
                f"This machine has no account “{user}” yet, so your notebooks have no place. Ask whoever runs this"
                " workbench to make the account; then start your server again.",
                reason="account",
                status_code=403,
            ) from None
    if settings.spawner == "local" and free_memory_bytes < settings.free_memory_bytes:
        raise SpawnException(
            f"This machine has no memory left for another server ({free_memory_bytes // MIB} MiB, and one needs"
            f" {settings.free_memory_bytes // MIB}). Idle servers are stopped by themselves: try again in some minutes,"
            " and stop servers and kernels that you do not use.",
            reason="memory",
            status_code=503,
        )


def free_memory_bytes() -> int:
    """What new processes of this machine can have."""
    with open(_MEMORY_FILE, encoding="ascii") as file:  # noqa: PTH123 (not a file on disk)
        found = dict(line.split(":") for line in file)
    return int(found["MemAvailable"].split()[0]) * 1024
