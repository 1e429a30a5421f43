"""The dispatcher: claims waiting jobs, has their models loaded, hands each job to a replica, writes down how it ended.

One loop: *renew leases, requeue what was lost, load what is waited for, claim what can run*, then wait for the bell.
Everything it knows that matters is in the jobs table, so it may die at any moment and start again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import structlog

from edif_backend.errors import ModelUnusable, ReplicaLost, SetupFailed
from edif_backend.jobs import Bell, Job, Jobs
from edif_backend.models.catalogue import Catalogue, ModelEntry
from edif_backend.replicas.call import Call, Outcome
from edif_backend.replicas.fleet import Fleet
from edif_backend.settings import BackendSettings
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: A model that could not be loaded is tried again, for jobs that come later, after this long.
_RETRY_S = 30.0


class Dispatcher:
    """The loop, its running jobs and its loading models.

    Args:
        name: of this dispatcher; a new process of the same name takes over what the old one had claimed.
    """

    def __init__(self, name: str, jobs: Jobs, catalogue: Catalogue, fleet: Fleet, settings: BackendSettings) -> None:
        self._name = name
        self._jobs = jobs
        self._fleet = fleet
        self._settings = settings
        self._entries = {entry.id: entry for entry in catalogue.entries}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._failed_at: dict[str, float] = {}
        self._running: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._checked_at = jobs.now()

    async def run(self, bell: Bell) -> None:
        """Work until cancelled.

        Raises:
            ConnectionError: the Ray cluster is gone.
        """
        self._jobs.requeue_lost(self._settings.job_attempts, worker=self._name)
        for entry in self._entries.values():
            self._jobs.deploy(entry.id, "NOT_STARTED", "", 0)
        while True:
            self._jobs.renew(self._name, self._settings.lease_s)
            self._jobs.requeue_lost(self._settings.job_attempts)
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
        for model in waiting.keys() - self._entries.keys():
            self._jobs.refuse_waiting(model, f"The model {model} is not served any more.", {"code": "model-unknown"})
        for id, entry in self._entries.items():
            if (id in waiting or entry.pinned) and not self._fleet.loaded(id) and id not in self._loading:
                self._load(entry)
        free = {id: self._settings.slots - self._running[id] for id in waiting if self._fleet.loaded(id)}
        for job in self._jobs.claim(
            self._name, {id: slots for id, slots in free.items() if slots > 0}, self._settings.lease_s
        ):
            self._running[job.model] += 1
            self._spawn(self._run(job))

    # -- models ---------------------------------------------------------------

    def _load(self, entry: ModelEntry) -> None:
        if self._jobs.now() - self._failed_at.get(entry.id, 0.0) < _RETRY_S and entry.id not in self._jobs.waiting():
            return
        self._jobs.deploying(entry.id, State.PROVISIONING, f"{entry.id} is not loaded; a place for it is made.")
        self._jobs.deploy(entry.id, "DEPLOYING", "Starting.", 0)
        self._loading[entry.id] = self._spawn(self._load_now(entry))

    async def _load_now(self, entry: ModelEntry) -> None:
        try:
            await self._fleet.start(entry)
        except (ModelUnusable, SetupFailed) as error:
            log.error("model cannot be loaded", model=entry.id, reason=str(error))
            self._failed_at[entry.id] = self._jobs.now()
            self._jobs.deploy(entry.id, "UNHEALTHY", str(error), 0)
            self._jobs.refuse_waiting(entry.id, f"{entry.id} cannot be loaded: {error}", {"code": error.code})
        except ReplicaLost as error:
            log.warning("replica lost while loading", model=entry.id)
            self._jobs.deploy(entry.id, "DEPLOYING", str(error), 0)
            await asyncio.sleep(1.0)  # one that dies at once must not be started in a tight circle
        else:
            self._failed_at.pop(entry.id, None)
            self._jobs.deploying(entry.id, State.QUEUED, "The model is loaded; waiting for a free slot.")
            self._jobs.deploy(entry.id, "RUNNING", "", 1)
        finally:
            del self._loading[entry.id]
            self._turn()

    # -- jobs -----------------------------------------------------------------

    async def _run(self, job: Job) -> None:
        call = Call(job.id, self._name, job.attempt, job.payload, job.compress, job.env)
        try:
            outcome = await self._fleet.run(job.model, call)
        except ReplicaLost as error:
            self._jobs.deploy(job.model, "DEPLOYING", str(error), 0)
            outcome = Outcome(error.code, str(error), requeue=True)
        finally:
            self._running[job.model] -= 1
        self._write_down(job, outcome)
        self._turn()

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
