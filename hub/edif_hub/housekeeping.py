"""``python -m edif_hub.housekeeping``: stops idle servers, removes what killed ones left, keeps disk in reserve.

A process of its own under the supervisor, so the hub can die without taking it along.  Idle is what servers themselves
say (:mod:`edif_hub.user_server.extension`): a kernel at work is not idle.  Culling is JupyterHub's own
``jupyterhub-idle-culler``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
from pathlib import Path

from jupyterhub_idle_culler import cull_idle
from tornado.httpclient import HTTPClientError

from edif_hub.settings import MIB, ServerSettings
from edif_hub.user_server.room import remove_left_rescues
from edif_protocol.installation import Installation

log = logging.getLogger("edif.housekeeping")

_RESERVE_BYTES = 16 * MIB
_FULL_BYTES = 8 * MIB  #: with less than this left the reserve is given up
_ROOMY_BYTES = 1024 * MIB  #: with more than this left it is made again


class Reserve:
    """A file that is worth nothing, on the disk of the hub's database: removed when that disk is full.

    Then the hub can still write down that somebody has logged in and started a server, to delete files.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def look(self, left_bytes: int) -> None:
        """Give the reserve up, or make it again, by what is left on the disk."""
        if left_bytes < _FULL_BYTES and self._file.exists():
            self._file.unlink()
            log.error("disk is full: the reserve of the hub is given up, free some space; %s bytes left", left_bytes)
        elif left_bytes > _ROOMY_BYTES and not self._file.exists():
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
            finally:
                os.close(descriptor)


async def cull_once(installation: Installation, settings: ServerSettings) -> None:
    """Stop every server that has been idle for too long, or has run for too long."""
    if not settings.idle_after_s and not settings.longest_s:
        return
    try:
        await cull_idle(
            url=f"{installation.url('hub')}/hub/api",
            api_token=installation.secret("housekeeping-token"),
            inactive_limit=settings.idle_after_s or float("inf"),
            max_age=settings.longest_s,
            logger=log,
        )
    except (OSError, HTTPClientError) as error:  # the hub is away: it is asked again soon
        log.warning("idle servers were not looked at: %s", error)


async def keep_house(installation: Installation, settings: ServerSettings) -> None:
    """Look again and again."""
    reserve = Reserve(installation.hub_dir / "reserve")
    while True:
        with contextlib.suppress(OSError):
            reserve.look(shutil.disk_usage(installation.hub_dir).free)
        for place in remove_left_rescues():
            log.info("removed %s: its server was killed", place)
        await cull_once(installation, settings)
        await asyncio.sleep(settings.look_s)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"at": self.formatTime(record), "level": record.levelname, "event": record.getMessage()})


def main() -> None:
    """Run until told to stop."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    installation = Installation()
    installation.hub_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    asyncio.run(keep_house(installation, ServerSettings()))


if __name__ == "__main__":
    main()
