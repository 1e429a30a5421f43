"""Every few minutes, what is not kept any more is thrown away; runs beside the dispatcher's loop."""

from __future__ import annotations

import asyncio

import structlog

from edif_backend.errors import FabricError
from edif_backend.jobs import Jobs, Policy
from edif_backend.objects import open_objects
from edif_backend.objects.expiry import sweep, sweep_kept
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

log = structlog.get_logger(__name__)

_EVERY_S = 300.0


async def sweep_often(installation: Installation, jobs: Jobs, policy: Policy, settings: BackendSettings) -> None:
    """Sweep until cancelled; a sweep that fails is tried again the next time."""
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            count = await asyncio.to_thread(_sweep, installation, jobs, policy, settings)
        except (FabricError, OSError) as error:
            log.warning("sweep failed", reason=str(error))
        else:
            if count:
                log.info("objects thrown away", count=count)


def _sweep(installation: Installation, jobs: Jobs, policy: Policy, settings: BackendSettings) -> int:
    objects = open_objects(installation.objects_dir, settings)
    groups = jobs.groups({user for _, user, *_ in jobs.kept_results()})
    kept = jobs.kept.bytes_of_users()

    def room(user: str) -> int:
        limit = policy.limits(user, groups.get(user, ())).stored_bytes
        return max(limit - kept.get(user, 0), 1) if limit else 0

    count = sweep(jobs, objects, settings.result_keep_s, room)
    return count + sweep_kept(jobs.kept, objects, jobs.now(), settings.kept_keep_s)
