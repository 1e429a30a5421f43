"""``python -m edif_backend.dispatch``: the dispatcher process, started by the supervisor of ``edif up``."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import signal
import sys

import structlog

from edif_backend import logs
from edif_backend.dispatch.dispatcher import Dispatcher
from edif_backend.dispatch.sweeping import sweep_often
from edif_backend.jobs import Policy, open_jobs
from edif_backend.models.live import LiveCatalogue
from edif_backend.replicas.fleet import Fleet
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

NAME = "dispatcher"


async def dispatch(installation: Installation, settings: BackendSettings) -> None:
    """Join Ray, then work until told to stop.

    It stops at once, and its claims stay: replicas go on with their jobs, and the next dispatcher takes them over.
    """
    fleet = Fleet(installation, settings)
    fleet.connect(f"{installation.host}:{installation.ports['ray']}")
    bells = installation.run_dir / "bells"
    jobs = open_jobs(installation.jobs_database, bells, url=settings.database_url, patient=True)
    catalogue = LiveCatalogue(installation.models_file)
    policy = Policy(installation.config_file, jobs)
    with jobs.bell("dispatcher") as bell:
        work = asyncio.create_task(Dispatcher(NAME, jobs, catalogue, fleet, settings, policy, installation).run(bell))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
        sweeping = asyncio.create_task(sweep_often(installation, jobs, policy, settings))
        with contextlib.suppress(asyncio.CancelledError):
            await work
        sweeping.cancel()
    jobs.close()


def main() -> int:
    """Run the one dispatcher of this installation."""
    logs.configure("dispatcher")
    installation = Installation()
    installation.run_dir.mkdir(parents=True, exist_ok=True)
    with (installation.run_dir / "dispatcher.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the name stands for one process: taking over relies on it
        try:
            asyncio.run(dispatch(installation, BackendSettings()))
        except ConnectionError as error:
            structlog.get_logger(__name__).error("no ray", reason=str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
