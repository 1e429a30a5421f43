"""The dispatcher: claims waiting jobs, has their models loaded, hands each job to a replica, writes down how it ended.

One loop: *renew leases, requeue what was lost, tend the models, claim what can run*, then wait for the bell.
Everything it knows that matters is in the jobs table, so it may die at any moment and start again: replicas go on with
the jobs they have, and the next dispatcher asks them how those ended.  While the table is away it waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Coroutine, Mapping
from typing import Any

import structlog

from edif_backend.dispatch.fairness import FairShare
from edif_backend.dispatch.residents import Residents
from edif_backend.dispatch.standing import Standing
from edif_backend.dispatch.telling import Scene, Telling
from edif_backend.dispatch.tending import Tending
from edif_backend.errors import NotServing, ReplicaLost
from edif_backend.jobs import Bell, Job, Jobs, Policy
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Orders
from edif_backend.replicas.call import Call, Outcome
from edif_backend.replicas.fleet import Fleet
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

log = structlog.get_logger(__name__)

#: How often waiting jobs are looked at.
_TELL_S = 1.0


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
        policy: Policy,
        installation: Installation,
    ) -> None:
        self._name = name
        self._jobs = jobs
        self._catalogue = catalogue
        self._fleet = fleet
        self._settings = settings
        orders, models_dir = Orders(installation.orders_dir), installation.models_dir
        self._residents = Residents(
            jobs, catalogue, fleet, settings, models_dir, orders, spawn=self._spawn, turn=self._turn
        )
        self._catalogue = catalogue
        self._tending = Tending(self._residents, jobs.now)
        self._standing = Standing(jobs, policy)
        self._telling = Telling(jobs, self._standing)
        self._running: dict[tuple[str, int], tuple[Job, float, str]] = {}  # by id and attempt: begin and copy
        self._shares: dict[str, FairShare] = defaultdict(FairShare)
        self._waiting: Mapping[str, Mapping[str, int]] = {}  # number of jobs by model and user, as of the last turn
        self._tasks: set[asyncio.Task[None]] = set()
        self._checked_at = jobs.now()
        self._stopped = False
        self._renewed_at = 0.0

    async def run(self, bell: Bell) -> None:
        """Work until cancelled.

        Raises:
            ConnectionError: the Ray cluster is gone.
        """
        self._fleet.watch(self._turn)
        places = await self._residents.start()
        for job in self._jobs.claims_of(self._name):
            copy = places.get((job.id, job.attempt), "")
            self._residents.sit(copy)
            self._start(job, copy, self._fleet.rejoin(copy, self._call(job)), taken_over=True)
        self._spawn(self._tell_often())
        try:
            while True:
                self._tend_leases()
                self._stop_unheld()
                self._turn(passing=True)
                await self._check_cluster()
                await bell.wait(timeout_s=self._tending.within_s(self._settings.lease_s / 5))
        finally:
            self._stopped = True

    def _tend_leases(self) -> None:
        """Renew leases and requeue what others have lost: often enough, and not with every ring of the bell."""
        if self._jobs.now() - self._renewed_at < self._settings.lease_s / 6:
            return
        self._renewed_at = self._jobs.now()
        self._jobs.renew(self._name, self._settings.lease_s)
        self._jobs.requeue_lost(self._settings.job_attempts, self._name)

    async def _check_cluster(self) -> None:
        """End with the cluster that this process has joined; the next process joins the next one."""
        if self._jobs.now() - self._checked_at < self._settings.lease_s / 3:
            return
        if not await self._fleet.reachable():
            raise ConnectionError("Ray does not answer any more.")
        self._checked_at = self._jobs.now()

    def _turn(self, *, passing: bool = False) -> None:
        """Look after the models, then hand out what can run.

        Args:
            passing: jobs came or went, and nothing else is known to have happened.
        """
        if self._stopped:  # what still goes on beside the loop must claim nothing more
            return
        waiting = self._waiting = self._jobs.waiting()
        of_user = self._of_user()
        self._tending.turn({model: sum(users.values()) for model, users in waiting.items()}, passing=passing)
        self._standing.look({user for users in waiting.values() for user in users})
        turns: dict[str, list[str]] = {}
        for model, users in waiting.items():
            if self._residents.serving(model):
                turns[model] = self._shares[model].choose(
                    users,
                    self._residents.free_slots(model),
                    self._standing.weight,
                    lambda user: self._standing.most(user) - of_user[user],
                )
                of_user.update(turns[model])
        for job in self._jobs.claim(self._name, turns, self._settings.lease_s):
            copy = self._residents.seat(job.model)
            self._start(job, copy, self._fleet.run(copy, self._call(job)))

    def _of_user(self) -> Counter[str]:
        """Number of running jobs by user, over all models."""
        return Counter(job.user for job, _, _ in self._running.values())

    # -- those who wait -------------------------------------------------------

    async def _tell_often(self) -> None:
        """Tell waiting jobs their place; a look that takes long is followed by a longer pause."""
        pause_s = _TELL_S
        while True:
            await asyncio.sleep(pause_s)
            began = time.monotonic()
            scenes = {entry.id: self._scene(entry.id) for entry in self._catalogue.entries}
            try:
                await asyncio.to_thread(self._telling.look, scenes)
            except NotServing as error:  # the database comes back; until then nobody can be told anything
                log.warning("waiting jobs cannot be told", reason=str(error))
            except Exception:  # a mistake in what is said must not end the saying for all that come later
                log.exception("waiting jobs cannot be told")
            pause_s = min(max(_TELL_S, 20 * (time.monotonic() - began)), 30.0)

    def _scene(self, model: str) -> Scene:
        now, running = time.monotonic(), defaultdict[str, list[float]](list)
        for job, began, _ in self._running.values():
            if job.model == model:
                running[job.user].append(now - began)
        load_s = None if self._residents.serving(model) else self._residents.serves_in_s(model)
        share = self._shares[model].copy({*self._waiting.get(model, ()), *running})
        return Scene(share, self._residents.slots(model) or self._settings.slots, running, load_s, self._of_user())

    # -- jobs -----------------------------------------------------------------

    def _call(self, job: Job) -> Call:
        return Call(
            job=job.id,
            worker=self._name,
            attempt=job.attempt,
            user=job.user,
            payload=job.payload,
            payload_bytes=job.payload_bytes,
            compress=job.compress,
            env=job.env,
            time_limit_s=job.time_limit_s,
            keep_bytes=self._standing.keep_bytes(job.user),
        )

    def _start(self, job: Job, copy: str, work: Coroutine[Any, Any, Outcome], *, taken_over: bool = False) -> None:
        self._running[job.id, job.attempt] = (job, time.monotonic(), copy)
        self._spawn(self._run(job, copy, work, taken_over))

    async def _run(self, job: Job, copy: str, work: Coroutine[Any, Any, Outcome], taken_over: bool) -> None:
        lost = False
        try:
            outcome = await work
        except ReplicaLost as error:
            if not taken_over:
                self._residents.lost(copy, str(error))
            outcome = Outcome(error.code, str(error), requeue=True)
            lost = True
        finally:
            _, began, _ = self._running.pop((job.id, job.attempt))
            self._residents.leave(copy)
        # The replica's own figure counts where this dispatcher came later than the job.
        device_s = max(time.monotonic() - began, outcome.seconds.get("replica", 0.0))
        if lost:  # that was the fabric's, so nobody pays for it
            device_s = 0.0
            self._shares[job.model].give_back(job.user)
        else:
            self._shares[job.model].settle(job.user, device_s)
        self._write_down(job, outcome, device_s, excused=lost and taken_over)
        self._turn(passing=not lost)

    def _stop_unheld(self) -> None:
        """Stop what runs without a claim: jobs that were cancelled, or given to another dispatcher meanwhile."""
        if not self._running:
            return
        held = self._jobs.held(self._name)
        for claim, (_, _, copy) in self._running.items():
            if claim not in held:
                self._spawn(self._fleet.stop_job(copy, *claim))

    def _write_down(self, job: Job, outcome: Outcome, device_s: float, *, excused: bool) -> None:
        end = (job.id, self._name, job.attempt)
        meta: dict[str, Any] = {"attempt": job.attempt, "seconds": outcome.seconds}
        if outcome.requeue:
            # A replica that went while nobody was there to see the job do it went with all of Ray, most likely.
            self._jobs.requeue(*end, outcome.description, self._settings.job_attempts, device_s, excused=excused)
        elif outcome.code == "ok":
            meta["sha256"] = outcome.sha256
            self._jobs.complete(
                *end, outcome.result, outcome.result_bytes, meta, device_s, started_at=outcome.started_at
            )
        else:
            meta["code"] = outcome.code
            self._jobs.fail(*end, outcome.description, meta, device_s, started_at=outcome.started_at)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a part of the dispatcher failed", exc_info=error)
