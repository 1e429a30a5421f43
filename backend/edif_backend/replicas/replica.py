"""One loaded copy of one model, in the process of a Ray actor: takes claimed jobs, runs each on an executor.

Called by :class:`~edif_backend.replicas.fleet.Fleet`, once per job: over a line, or from another machine through Ray.
It never runs user code and never unpickles what an executor sends: payloads and results pass through as opaque bytes.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import structlog

from edif_backend import logs
from edif_backend.errors import FabricError
from edif_backend.executors import jail
from edif_backend.executors.pool import ExecutorPool, Limits, Work
from edif_backend.jobs import open_jobs
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.models.snapshots import prepare
from edif_backend.objects import open_objects
from edif_backend.objects.behind import WriteBehind
from edif_backend.objects.store import SMALL_BYTES
from edif_backend.replicas.call import Call, Census, Outcome
from edif_backend.replicas.line import LineEnd
from edif_backend.replicas.users_shelf import UsersShelf
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation
from edif_protocol.wire import State

log = structlog.get_logger(__name__)

#: A job that ends sooner is told to run when it has ended: telling it costs as much as a small job.
_SHORT_S = 0.03

#: How jobs ended is told again to a dispatcher that comes after the one that sent them.
_OUTCOMES_KEPT = 100


class Replica:
    """The actor's class.

    Args:
        entry: the catalogue entry, as JSON values.
        installation: the installation, as JSON values (an actor's environment is Ray's).
        settings: the backend's settings, as plain values and secrets.
        name: of the actor.
    """

    def __init__(
        self, entry: dict[str, Any], installation: dict[str, Any], settings: dict[str, Any], name: str
    ) -> None:
        logs.configure("replica")
        self._name = name
        self._line = LineEnd(self.run)
        self._entry = ModelEntry.model_validate(entry)
        self._installation = Installation.model_validate(installation)
        self._settings = BackendSettings.model_validate(settings)
        bells = self._installation.run_dir / "bells"
        self._jobs = open_jobs(self._installation.jobs_database, bells, url=self._settings.database_url, patient=True)
        self._notes = ThreadPoolExecutor(1, "notes")  # what the table is told, in order; no job waits while it is away
        self._calls: dict[tuple[str, int], asyncio.Task[Outcome]] = {}
        self._objects = open_objects(self._installation.objects_dir, self._settings)
        self._pool: ExecutorPool | None = None
        self._starting = asyncio.Lock()
        self._parts: Shares = ()

    async def census(self) -> Census:
        """Where it is and what it does."""
        parked = self._pool is not None and self._pool.parked
        return Census(str(ray.get_runtime_context().get_node_id()), tuple(self._calls), tuple(self._parts), parked)

    async def start(self, tell: bool = True, parts: Shares | None = None) -> None:
        """Load the model, if it is not loaded, or bring it back if it is parked.

        Args:
            tell: whether jobs that wait for it are told how far it is.
            parts: devices and the bytes that each has for it; None: those it had.

        Raises:
            ModelUnusable, JailUnavailable: with what the operator must mend.
            ExecutorLost: a process died on the way that may live the next time.
        """
        async with self._starting:
            try:
                await self._line.open(self._installation.run_dir / "lines", self._name)
            except OSError as error:  # then all jobs come through Ray
                log.warning("no line", reason=str(error))
            self._parts = self._parts if parts is None else parts
            if self._pool and self._pool.alive:
                await self._pool.wake()
                return
            say: Callable[[str], None] = self._say if tell else _unsaid
            layers = await asyncio.to_thread(jail.trial)
            log.info("jail", layers=str(layers))
            jail.insist(layers, self._settings.accept_weak_jail)
            snapshot = await asyncio.to_thread(prepare, self._entry, self._installation.models_dir, say)
            settings = self._settings
            limits = Limits(
                result_bytes=settings.result_limit_bytes,
                memory_bytes=settings.executor_memory_bytes,
                tmp_bytes=settings.executor_tmp_bytes,
                threads=settings.threads,
            )
            entry, folder = self._entry.model_dump(mode="json"), Path(snapshot.folder)
            pool = ExecutorPool(entry, folder, limits, ready=settings.slots, parts=self._parts)
            await pool.start(say)
            self._pool = pool
            log.info("model loaded", model=self._entry.id, parameters=pool.parameters)

    async def park(self) -> None:
        """Give back what serving takes, while no job runs: devices and executors; :meth:`start` brings it back."""
        async with self._starting:
            if self._pool:
                await self._pool.park()

    async def run(self, call: Call) -> Outcome:
        """Run one job; every ending is an outcome, so that nothing raised in a jail travels further."""
        task = asyncio.create_task(self._run(call))
        self._calls[call.job, call.attempt] = task
        ended = [key for key, known in self._calls.items() if known.done()]
        for key in ended[:-_OUTCOMES_KEPT]:
            del self._calls[key]
        return await _ending(task)

    async def rejoin(self, call: Call) -> Outcome | None:
        """How a job ends, or has ended, whose dispatcher died meanwhile; None when it never came here."""
        task = self._calls.get((call.job, call.attempt))
        return await _ending(task) if task else None

    async def stop_job(self, job: str, attempt: int) -> None:
        """Stop a job that runs here, its executor with it; one that does not run here is fine."""
        task = self._calls.get((job, attempt))
        if task is not None:
            task.cancel()

    async def _run(self, call: Call) -> Outcome:
        story = _Story()
        try:
            outcome = await self._outcome(call, story)
        finally:
            story.over()
        if story.noted:  # whatever the job has said is written before its end
            await asyncio.get_running_loop().run_in_executor(self._notes, _nothing)
        return dataclasses.replace(outcome, started_at=story.started_at)

    async def _outcome(self, call: Call, story: _Story) -> Outcome:
        began = time.perf_counter()
        name = f"results/{call.job}-{call.attempt}"
        try:
            await asyncio.shield(self.start(tell=False))  # it is for others too: a job that is stopped does not stop it
            assert self._pool
            payload = await self._payload(call)
            async with WriteBehind(lambda: self._objects.writer(name), near=self._objects.near) as sink:
                done = await self._pool.run(
                    Work(
                        user=call.user,
                        compress=call.compress,
                        env=call.env,
                        payload=payload,
                        sink=sink,
                        time_limit_s=call.time_limit_s,
                        keeper=UsersShelf(call, self._entry.id, self._jobs, self._objects),
                        started=lambda: self._started(call, story),
                        said=lambda line: self._said(call, story, line),
                    )
                )
        except FabricError as error:
            return Outcome(error.code, str(error), requeue=error.requeued)
        except FileNotFoundError:
            return Outcome("payload-lost", "The job's payload is not kept any more; send it again.")
        except OSError as error:
            log.exception("storage failed", job=call.job)
            return Outcome(
                "storage", f"The result could not be stored ({error.strerror}); tell the operator, then retry."
            )
        seconds = {**done.seconds, "replica": round(time.perf_counter() - began, 6)}
        return Outcome("ok", result=name, result_bytes=done.result_bytes, sha256=sink.sha256, seconds=seconds)

    async def _payload(self, call: Call) -> bytes:
        if self._objects.near and call.payload_bytes <= SMALL_BYTES:
            return self._objects.read(call.payload)
        return await asyncio.to_thread(self._objects.read, call.payload)

    def _started(self, call: Call, story: _Story) -> None:
        story.started_at = self._jobs.now()
        story.telling = asyncio.get_running_loop().call_later(_SHORT_S, self._tell_start, call, story)

    def _tell_start(self, call: Call, story: _Story) -> None:
        if not story.noted:
            story.noted = True
            self._note(self._jobs.running, call.job, call.worker, call.attempt, story.started_at)

    def _said(self, call: Call, story: _Story, line: str) -> None:
        self._tell_start(call, story)
        self._note(self._jobs.log, call.job, call.attempt, line)

    def _say(self, text: str) -> None:
        self._note(self._jobs.deploying, self._entry.id, State.DEPLOYING, text)
        self._note(self._jobs.deploy, self._entry.id, "DEPLOYING", text, 0)

    def _note(self, what: Callable[..., object], *values: object) -> None:
        self._notes.submit(what, *values).add_done_callback(_noted)


@dataclass(slots=True)
class _Story:
    """What is known, and told, of a job that runs."""

    started_at: float | None = None
    noted: bool = False  #: whether the table was told anything
    telling: asyncio.TimerHandle | None = None

    def over(self) -> None:
        """What was not told by now is told with the job's end."""
        if self.telling:
            self.telling.cancel()


async def _ending(task: asyncio.Task[Outcome]) -> Outcome:
    """The task's end, whoever waits for it or has ceased to."""
    await asyncio.wait({task})
    return Outcome("cancelled", "The job was cancelled.") if task.cancelled() else task.result()


def _noted(note: Future[object]) -> None:
    if error := note.exception():
        log.error("what a job said was not noted", reason=repr(error))


def _unsaid(text: str) -> None:
    """Other copies serve: how far this one is tells nobody anything."""


def _nothing() -> None:
    """Done when everything before it is."""
