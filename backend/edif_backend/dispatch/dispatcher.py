"""The dispatcher: claims waiting jobs, has their models loaded, hands each job to a replica, writes down how it ended.

One loop: *renew leases, requeue what was lost, tend the models, claim what can run*, then wait for the bell.
Everything it knows that matters is in the jobs table, so it may die at any moment and start again.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any

import structlog

from edif_backend.dispatch.fairness import FairShare
from edif_backend.dispatch.residents import Residents
from edif_backend.errors import ReplicaLost
from edif_backend.jobs import Bell, Job, Jobs
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Orders
from edif_backend.replicas.call import Call, Outcome
from edif_backend.replicas.fleet import Fleet
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

log = structlog.get_logger(__name__)


class Dispatcher:
    """The loop and its running jobs.

    Args:
        name: of this dispatcher; a new process of the same name takes over what the old one had claimed.
    """

    def __init__(
        self,
        name: str,
        jobs: Jobs,
        catalogue: LiveCatalogue,
        fleet: Fleet,
        settings: BackendSettings,
        installation: Installation,
    ) -> None:
        self._name = name
        self._jobs = jobs
        self._fleet = fleet
        self._settings = settings
        orders, models_dir = Orders(installation.orders_dir), installation.models_dir
        self._residents = Residents(
            jobs, catalogue, fleet, settings, models_dir, orders, spawn=self._spawn, turn=self._turn
        )
        self._running: Counter[str] = Counter()
        self._calls: dict[tuple[str, int], Job] = {}
        self._shares: dict[str, FairShare] = defaultdict(FairShare)
        self._tasks: set[asyncio.Task[None]] = set()
        self._checked_at = jobs.now()

    async def run(self, bell: Bell) -> None:
        """Work until cancelled.

        Raises:
            ConnectionError: the Ray cluster is gone.
        """
        self._jobs.requeue_lost(self._settings.job_attempts, worker=self._name)
        self._residents.start()
        while True:
            self._jobs.renew(self._name, self._settings.lease_s)
            self._jobs.requeue_lost(self._settings.job_attempts)
            self._stop_unheld()
            self._turn()
            await self._check_cluster()
            await bell.wait(timeout_s=self._settings.lease_s / 5)

    async def _check_cluster(self) -> None:
        """End with the cluster that this process has joined; the next process joins the next one."""
        if self._jobs.now() - self._checked_at < self._settings.lease_s / 3:
            return
        if not await self._fleet.reachable():
            raise ConnectionError("Ray does not answer any more.")
        self._checked_at = self._jobs.now()

    def _turn(self) -> None:
        waiting = self._jobs.waiting()
        self._residents.tend({model: sum(users.values()) for model, users in waiting.items()}, self._running)
        turns = {
            model: self._shares[model].choose(users, self._settings.slots - self._running[model])
            for model, users in waiting.items()
            if self._residents.serving(model)
        }
        for job in self._jobs.claim(self._name, turns, self._settings.lease_s):
            self._running[job.model] += 1
            self._calls[job.id, job.attempt] = job
            self._residents.used(job.model)
            self._spawn(self._run(job))

    # -- jobs -----------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        began = time.monotonic()
        call = Call(job.id, self._name, job.attempt, job.payload, job.compress, job.env)
        try:
            outcome = await self._fleet.run(job.model, call)
        except ReplicaLost as error:
            self._jobs.deploy(job.model, "DEPLOYING", str(error), 0)
            outcome = Outcome(error.code, str(error), requeue=True)
        finally:
            self._running[job.model] -= 1
            del self._calls[job.id, job.attempt]
            self._residents.used(job.model)
            self._shares[job.model].settle(job.user, time.monotonic() - began)
        self._write_down(job, outcome)
        self._turn()

    def _stop_unheld(self) -> None:
        """Stop what runs without a claim: jobs that were cancelled, or given to another dispatcher meanwhile."""
        if not self._calls:
            return
        held = self._jobs.held(self._name)
        for claim, job in self._calls.items():
            if claim not in held:
                self._spawn(self._fleet.stop_job(job.model, *claim))

    def _write_down(self, job: Job, outcome: Outcome) -> None:
        meta: dict[str, Any] = {"attempt": job.attempt, "seconds": outcome.seconds}
        if outcome.requeue:
            self._jobs.requeue(job.id, self._name, job.attempt, outcome.description, self._settings.job_attempts)
        elif outcome.code == "ok":
            meta["sha256"] = outcome.sha256
            self._jobs.complete(job.id, self._name, job.attempt, outcome.result, outcome.result_bytes, meta)
        else:
            self._jobs.fail(job.id, self._name, job.attempt, outcome.description, {**meta, "code": outcome.code})

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a part of the dispatcher failed", exc_info=error)
