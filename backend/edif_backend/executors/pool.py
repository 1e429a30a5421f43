"""Executors from outside the jail: starts the zygote, has executors forked ahead, runs jobs on them, keeps them.

Called by the replica (one pool a replica) in the replica's process; needs no Ray.  Nothing that comes from inside the
jail is believed: frames are bounded, fields checked, results passed on as opaque bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from edif_backend.errors import ExecutorLost, ResultTooLarge, TimeLimitReached, UserCodeFailed
from edif_backend.executors import frames, jail, keeping_dialog
from edif_backend.executors.frames import FrameError, Kind
from edif_backend.executors.keeping_dialog import Keeper, KeepingDialog
from edif_backend.executors.printed import Output, seconds_told
from edif_backend.executors.weights_guard import WeightsGuard
from edif_backend.executors.zygote_config import ZygoteConfig
from edif_backend.executors.zygote_process import ZygoteProcess
from edif_backend.models import devices
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.models.snapshots import folder_of

log = structlog.get_logger(__name__)

#: An executor kept for its user ends after so many jobs, or when that user has sent none for so long.
_JOBS, _IDLE_S = 200, 60.0
#: What an executor may take to say whether it is as it was; how long its user's next job waits for that at most; and
#: how long the next fork waits, for the result's sake.
_CHECK_S, _WAIT_FOR_CHECK_S, _REFILL_AFTER_S = 5.0, 0.03, 0.02


class Sink(Protocol):
    """Where a result goes, piece by piece."""

    async def write(self, data: frames.Body) -> None:
        """Take the next piece; the executor is not read from meanwhile, so a slow sink slows the job, nothing else."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may take."""

    result_bytes: int
    memory_bytes: int  #: address space beyond what is mapped
    tmp_bytes: int  #: private /tmp
    threads: int  #: of torch


def _unheard(*_: object) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One job, as the pool is given it."""

    user: str
    payload: bytes
    compress: bool
    env: dict[str, Any]
    sink: Sink
    keeper: Keeper
    time_limit_s: float  #: it is stopped then at last
    started: Callable[[], None] = _unheard
    said: Callable[[str], None] = _unheard  #: called with each line that the job prints


@dataclass(frozen=True, slots=True)
class Done:
    """How a job went."""

    result_bytes: int
    seconds: dict[str, float]  #: run, pack: inside the executor; executor: as seen from here


@dataclass(slots=True)
class _Executor:
    pid: int
    reader: frames.Reader
    writer: asyncio.StreamWriter
    user: str = ""  #: whose it is, from its first job on
    jobs: int = 0


class ExecutorPool:
    """One zygote and its executors.

    Args:
        entry: the catalogue entry of the model, as JSON values.
        folder: its files, the one folder an executor may read besides the system's.
        limits: what one job may take.
        ready: how many executors are kept forked ahead.
        parts: devices that hold the weights, and the bytes of each, in the order of the forward pass; none: the host.
    """

    def __init__(self, entry: dict[str, Any], folder: Path, limits: Limits, ready: int, parts: Shares = ()) -> None:
        self._model, self._folder = ModelEntry.model_validate(entry), folder
        self._limits, self._target, self._parts = limits, ready, tuple(parts)
        adapters = self._model.adapter_entries
        self._adapters = {adapter.id: folder_of(adapter, folder.parent) for adapter in adapters}
        self._zygote = ZygoteProcess(self._model, folder, self._adapters)
        # Those kept are each for its user, the one that was used last at the end.
        self._ready, self._kept = deque[_Executor](), deque[_Executor]()
        self._tasks: set[asyncio.Task[None]] = set()
        self._judging: dict[asyncio.Task[None], str] = {}  # executors that are being checked, and whose they are
        self._on_devices = bool(devices.kept(self._parts))
        self._guard = WeightsGuard(self._zygote.check, self._weights_changed) if self._on_devices else None
        self.parked = False  #: it waits without executors

    @property
    def alive(self) -> bool:
        """Whether the zygote is there and heard."""
        return self._zygote.alive

    @property
    def parameters(self) -> int:
        """How many the model has."""
        return self._zygote.parameters

    async def start(self, say: Callable[[str], None]) -> None:
        """Start the zygote and wait until its model is loaded; ``say`` is told how far it is.

        Raises:
            JailUnavailable: bubblewrap is missing.
            ModelUnusable: the zygote ended before it was ready.
            ExecutorLost: it was killed, or its first executors were.
        """
        await self._zygote.start(self._config(), say)
        await self._fill()

    async def run(self, work: Work) -> Done:
        """Run one job on an executor that has run nothing before, or only jobs of its user that left it as it was.

        Raises:
            UserCodeFailed: the traced block raised; the message is what to show.
            TimeLimitReached, ResultTooLarge: a limit was reached.
            ExecutorLost: the executor died or spoke nonsense.
            WeightsChanged: another user's job changed the weights on the device meanwhile.
        """
        began = time.perf_counter()
        watch = self._guard.watch(work.user) if self._guard else contextlib.nullcontext()
        async with watch as watched:
            done = await self._run(work)
        if self._guard and watched:
            await self._guard.believe(watched)
        done.seconds["executor"] = round(time.perf_counter() - began, 6)
        return done

    async def _run(self, work: Work) -> Done:
        executor = await self._take(work.user)
        keeping = KeepingDialog(work.keeper, executor.writer)
        well = False
        try:
            async with asyncio.timeout(work.time_limit_s):
                executor.writer.write(frames.words(Kind.JOB, compress=work.compress, env=work.env))
                executor.writer.write(frames.pack(Kind.PAYLOAD, work.payload))
                result_bytes, seconds = await self._follow(executor, keeping, work)
            well = True
        except TimeoutError:
            raise TimeLimitReached(
                f"The job ran longer than the {work.time_limit_s:g} s it may take and was stopped. "
                "Trace fewer prompts or tokens at once, or split the work into several jobs."
            ) from None
        except (FrameError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise ExecutorLost(
                "The process that ran this job ended without an answer; most often it needed more memory than it may."
            ) from error
        finally:
            if well:
                judging = self._spawn(self._keep_if_pristine(executor))
                self._judging[judging] = work.user
                judging.add_done_callback(self._judging.pop)
            else:
                self._end(executor)
            self._spawn(self._refill())
            await keeping.close()
        return Done(result_bytes, seconds)

    async def park(self) -> None:
        """End all executors, none of which runs a job; the zygote waits, with the weights in the host's memory."""
        self.parked = True
        await self.judged()
        while waiting := self._ready or self._kept:
            self._end(waiting.pop())
        if self._on_devices:
            self._zygote.leave_devices()

    async def wake(self) -> None:
        """Take jobs again after :meth:`park`.

        Raises:
            ModelUnusable: its devices do not take the weights.
        """
        if self.parked and self._on_devices:
            await self._zygote.take_devices()
        if self.parked:
            await self._fill()
            self.parked = False

    async def _fill(self) -> None:
        while len(self._ready) < self._target:
            self._ready.append(await self._fork())

    async def stop(self) -> None:
        """End the zygote; all its executors go with it."""
        self._target = 0  # no more forks
        await self._zygote.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)  # each ends when the zygote is gone
        for executor in (*self._ready, *self._kept):
            executor.writer.close()

    async def judged(self) -> None:
        """Wait until every executor whose job has ended is kept or ended, and the weights are checked."""
        await asyncio.gather(*self._judging)
        if self._guard:
            await self._guard.settled()

    # -- one job --------------------------------------------------------------

    async def _follow(self, executor: _Executor, keeping: KeepingDialog, work: Work) -> tuple[int, dict[str, float]]:
        result_bytes, has_started, output = 0, False, Output(work.said)
        while True:
            kind, body = await frames.read(executor.reader)
            if kind is Kind.RESULT:
                result_bytes += len(body)
                if result_bytes > self._limits.result_bytes:
                    raise ResultTooLarge(
                        f"The saved values are larger than the {self._limits.result_bytes} bytes one job may return. "
                        "Save less: reduce on the server, slice before .save(), or split the work."
                    )
                await work.sink.write(body)
            elif kind is Kind.LOG:
                output.take(body)
            elif kind in keeping_dialog.KINDS:
                await keeping.hear(kind, body)
            elif kind is Kind.STARTED and not has_started:
                has_started = True
                work.started()
            elif kind is Kind.UNFIT and not has_started:
                why = frames.text(str(frames.read_words(body).get("description", "")))
                raise ExecutorLost(f"The process for this job could not be made ready: {why}")
            elif kind is Kind.FAILED:
                raise UserCodeFailed(frames.text(str(frames.read_words(body).get("description", "")))[:100_000])
            elif kind is Kind.DONE and has_started:
                return result_bytes, seconds_told(frames.read_words(body).get("seconds"))
            else:
                raise FrameError(f"unexpected {kind.name}")

    def _take_ready(self) -> _Executor | None:
        """An executor that was forked ahead and lives; one that died idle must not cost a job its start."""
        while self._ready:
            executor = self._ready.popleft()
            if not executor.reader.at_eof():
                return executor
            self._end(executor)
        return None

    # -- executors between jobs -----------------------------------------------

    async def _take(self, user: str) -> _Executor:
        judging = [task for task, whose in self._judging.items() if whose == user]
        if judging and not any(executor.user == user for executor in self._kept):
            # The check is soon done, and cheaper than another fork.
            await asyncio.wait(judging, timeout=_WAIT_FOR_CHECK_S, return_when=asyncio.FIRST_COMPLETED)
        mine = (executor for executor in reversed(self._kept) if executor.user == user)
        kept = next((executor for executor in mine if not executor.reader.at_eof()), None)
        if kept:
            self._kept.remove(kept)
            return kept
        executor = self._take_ready() or await self._fork()
        executor.user = user
        return executor

    async def _keep_if_pristine(self, executor: _Executor) -> None:
        """Keep an executor for its user's next job, and only for theirs, if its last job has changed nothing there."""
        executor.jobs += 1
        try:
            async with asyncio.timeout(_CHECK_S):
                kind, body = await frames.read(executor.reader)
            changed = str(frames.read_words(body).get("changed", "?")) if kind is Kind.KEPT else kind.name
        except (TimeoutError, FrameError, asyncio.IncompleteReadError, ConnectionError):
            changed = "no answer"
        if changed or executor.jobs >= _JOBS or self.parked or not self.alive:
            log.debug("executor ended", changed=frames.text(changed), jobs=executor.jobs)
            self._end(executor)
            return
        self._kept.append(executor)
        if len(self._kept) > self._kept_at_most:
            self._end(self._kept.popleft())
        asyncio.get_running_loop().call_later(_IDLE_S, self._end_if_idle, executor, executor.jobs)

    def _end_if_idle(self, executor: _Executor, jobs: int) -> None:
        if executor.jobs == jobs and executor in self._kept:
            self._kept.remove(executor)
            self._end(executor)

    def _end(self, executor: _Executor) -> None:
        executor.writer.close()
        self._zygote.kill(executor.pid)

    # -- the zygote -----------------------------------------------------------

    def _weights_changed(self, users: list[str]) -> None:
        log.warning("weights on a device were changed and have been put right", model=self._model.id, users=users)

    @property
    def _kept_at_most(self) -> int:
        """Idle executors that wait for their users; on a device each holds memory that nobody else can use."""
        return self._target if self._on_devices else 2 * self._target

    def _config(self) -> ZygoteConfig:
        experience, held = self._zygote.experience, devices.kept(self._parts)
        return ZygoteConfig(
            entry=self._model.model_dump(mode="json"),
            models_dir=str(self._folder.parent),
            threads=self._limits.threads,
            memory_bytes=self._limits.memory_bytes,
            tmp_bytes=self._limits.tmp_bytes,
            shown=tuple(str(folder) for folder in jail.readable([self._folder, *self._adapters.values()])),
            adapters={name: str(folder) for name, folder in self._adapters.items()},
            profile=experience.profile.model_dump() if experience.profile else None,
            pretended=() if held else self._parts,
            devices=devices.inside(held),
            nodes=devices.nodes(held),
            executors=1 + self._target + self._kept_at_most,
            slots=max(1, self._target),
        )

    async def _fork(self) -> _Executor:
        pid, sock = await self._zygote.fork()
        reader, writer = await frames.Reader.connected(sock)
        return _Executor(pid, reader, writer)

    async def _refill(self) -> None:
        await asyncio.sleep(_REFILL_AFTER_S)
        if self.alive and not self.parked and len(self._ready) + self._zygote.forking < self._target:
            with contextlib.suppress(ExecutorLost):  # the next job meets it and says so
                self._ready.append(await self._fork())
                if self.parked:  # since then
                    self._end(self._ready.pop())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
