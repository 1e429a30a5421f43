"""What a user server starts with: its turn, home folder, environment and kernel key.

Called by JupyterHub through the hooks set in ``jupyterhub_config.py``; runs in the hub's process.  What has to be done
as the user is done by the server itself (:mod:`edif_hub.user_server`).

In an embedded installation user servers are processes of the hub's own Unix account, each in a home folder of its own.
That keeps honest users apart, not hostile ones: whoever can run code in one server can read the others' files and the
installation's secrets.  The jail is around the *backend's* executors; where users must be kept from each other's files,
a spawner with real accounts or containers takes this one's place (:mod:`edif_hub.spawners`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jupyterhub.spawner import Spawner, SpawnException

from edif_hub import spawners
from edif_hub.keys import groups_of, mint_key, revoke_keys
from edif_hub.settings import HubSettings, ServerSettings
from edif_hub.start_queue import StartQueue
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation
from edif_protocol.mirror_ticket import endpoint
from edif_protocol.wire import COURSES_PATH, PAGE_PATH

_LOOK_S = 0.1
#: How often a server tells the hub when it was last used, at least; and how often in the time it may be idle.
_TELL_S, _TELLINGS = 60, 10


def environment(installation: Installation, settings: ServerSettings, hub: HubSettings) -> dict[str, str]:
    """The variables of every user server, and so of every kernel; the key is added at each start."""
    site = hub.browsers_reach(installation) if hub.user_domains else ""  # else the pages are on the server's own host
    return {
        **installation.environment("user-server"),
        "NDIF_HOST": installation.url("gateway"),
        "HF_ENDPOINT": installation.mirror_url,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # only small files come here, and each bar would stay in the notebook
        "JUPYTERHUB_ACTIVITY_INTERVAL": str(_tell_s(settings.idle_after_s)),
        "EDIF_SERVER_HOME_BYTES": str(settings.home_bytes),
        "EDIF_SERVER_DISK_RESERVE_BYTES": str(settings.disk_reserve_bytes),
        "EDIF_SERVER_IDLE_AFTER_S": str(settings.idle_after_s),
        "EDIF_SERVER_WARN_BEFORE_S": str(settings.warn_before_s),
        "EDIF_SERVER_OUTPUT_SCRIPTS": str(settings.output_scripts),
        "EDIF_SERVER_PAGE_URL": f"{site}{PAGE_PATH}",
        "EDIF_SERVER_COURSES_URL": f"{site}{COURSES_PATH}",
    }


def _tell_s(idle_after_s: float) -> int:
    return max(1, min(_TELL_S, int(idle_after_s / _TELLINGS))) if idle_after_s else _TELL_S


def before_start(
    installation: Installation, settings: ServerSettings, queue: StartQueue, audit: AuditLog, key_lifetime_s: int
) -> Callable[[Spawner], Awaitable[None]]:
    """The hook that checks, waits for the turn, prepares a home; key and mirror's address last ``key_lifetime_s``."""

    async def prepare(spawner: Spawner) -> None:
        spawners.check_before_start(settings, spawner.user.name, spawners.free_memory_bytes())
        variables = spawners.variables(settings)
        if settings.spawner == "local":
            home = _home(spawner)
            variables["HF_HOME"] = str(home / ".cache" / "huggingface")
        await queue.turn(spawner._log_name)
        _watch(queue, spawner)
        variables["NDIF_API_KEY"] = mint_key(spawner, key_lifetime_s)
        variables["HF_ENDPOINT"] = endpoint(installation, groups_of(spawner.user), time.time() + key_lifetime_s)
        spawner.environment = {**spawner.environment, **variables}
        audit.note(spawner.user.name, "server.start", spawner._log_name, via="hub")

    return prepare


def _home(spawner: Spawner) -> Path:
    home = Path(spawner.home_dir)
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SpawnException(
            f"Your home folder could not be made: {error.strerror}. Whoever runs this workbench can mend that: tell"
            " them this sentence.",
            reason="home",
            status_code=503,
        ) from error
    return home


_watching: set[asyncio.Task[None]] = set()


def _watch(queue: StartQueue, spawner: Spawner) -> None:
    """Give the turn on when the start has ended, in whatever way."""

    async def watch() -> None:
        while spawner.pending == "spawn":  # noqa: ASYNC110 (JupyterHub rings no bell when a start ends)
            await asyncio.sleep(_LOOK_S)
        queue.over(spawner._log_name)

    task = asyncio.create_task(watch())
    _watching.add(task)  # the loop itself would forget it
    task.add_done_callback(_watching.discard)


def profile_hook(settings: ServerSettings) -> Callable[[Spawner, dict[str, Any]], None]:
    """The hook that gives a server the size its user has chosen."""

    def apply(spawner: Spawner, chosen: dict[str, Any]) -> None:
        spawners.apply_profile(settings, spawner, chosen)

    return apply


def after_stop(audit: AuditLog) -> Callable[[Spawner], None]:
    """The hook that ends the key which the stopped server's kernels had."""

    def end(spawner: Spawner) -> None:
        revoke_keys(spawner)
        audit.note(spawner.user.name, "server.stopped", spawner._log_name, via="hub")

    return end
