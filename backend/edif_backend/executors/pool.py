"""Executors from outside the jail: starts the zygote, has executors forked ahead, runs jobs on them, keeps them.

Called by the replica (one pool a replica) in the replica's process; needs no Ray.  Nothing that comes from inside the
jail is believed: frames are bounded, fields checked, results passed on as opaque bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from edif_backend.errors import ExecutorLost, ModelUnusable, ResultTooLarge, TimeLimitReached, UserCodeFailed
from edif_backend.executors import frames, jail, keeping_dialog
from edif_backend.executors.frames import FrameError, Kind
from edif_backend.executors.keeping_dialog import Keeper, KeepingDialog
from edif_backend.executors.printed import Output, seconds_told
from edif_backend.executors.progress import wait_until_loaded
from edif_backend.executors.zygote import ZygoteConfig
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.models.experience import experience_with, remember
from edif_backend.models.peaks import Profile
from edif_backend.models.snapshots import folder_of

log = structlog.get_logger(__name__)

#: An executor kept for its user ends after so many jobs, or when that user has sent none for so long.
_JOBS, _IDLE_S = 200, 60.0
#: What an executor may take to say whether it is as it was; how long its user's next job waits for that at most; and
#: how long the next fork waits, for the result's sake.
_CHECK_S, _WAIT_FOR_CHECK_S, _REFILL_AFTER_S = 5.0, 0.03, 0.02


class Sink(Protocol):
    """Where a result goes, piece by piece."""

    async def write(self, data: bytes) -> None:
        """Take the next piece; the executor is not read from meanwhile, so a slow sink slows the job, nothing else."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one job may take."""

    result_bytes: int
    memory_bytes: int  #: address space beyond what is mapped
    tmp_bytes: int  #: private /tmp
    threads: int  #: of torch


@dataclass(frozen=True, slots=True)
class Done:
    """How a job went."""

    result_bytes: int
    seconds: dict[str, float]  #: run, pack: inside the executor; executor: as seen from here


@dataclass(slots=True)
class _Executor:
    pid: int
    reader: asyncio.StreamReader
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
        self._entry, self._folder = entry, folder
        self._limits, self._target = limits, ready
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        # Those kept are each for its user, the one that was used last at the end.
        self._ready, self._kept = deque[_Executor](), deque[_Executor]()
        self._forked: deque[asyncio.Future[int]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        self._keep: asyncio.StreamWriter | None = None
        self.parked = False  #: it waits without executors
        self._last_words = ""
        self._judging: dict[asyncio.Task[None], str] = {}  # executors that are being checked, and whose they are
        self._model = ModelEntry.model_validate(entry)
        self._experience = experience_with(self._model, folder)
        adapters = self._model.adapter_entries
        self._adapters = {adapter.id: folder_of(adapter, folder.parent) for adapter in adapters}
        self._parts = tuple(parts)
        self.parameters = 0

    @property
    def alive(self) -> bool:
        """Whether the zygote is there and heard."""
        return self._listening is not None and not self._listening.done()

    async def start(self, say: Callable[[str], None]) -> None:
        """Start the zygote and wait until its model is loaded; ``say`` is told how far it is.

        Raises:
            JailUnavailable: bubblewrap is missing.
            ModelUnusable: the zygote ended before it was ready.
        """
        ours, theirs = socket.socketpair()
        line = jail.command(
            ["-m", "edif_backend.executors.zygote", str(theirs.fileno()), self._config().dumps()],
            folders=[self._folder, *self._adapters.values()],
            environment={"EDIF_ROLE": "executor", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        # Not asyncio's own: its transport reads whole buffers ahead, and the zygote is waited for in one place only.
        self._zygote = await asyncio.to_thread(
            lambda: subprocess.Popen(line, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        )
        theirs.close()
        self._control = ours
        # The writer is kept only because the connection closes when it is collected.
        reader, self._keep = await asyncio.open_connection(sock=ours.dup())
        self._spawn(self._keep_errors(self._zygote))
        try:
            await self._load(reader, say)
        except asyncio.IncompleteReadError:
            await asyncio.to_thread(self._zygote.wait)
            raise ModelUnusable(
                self._last_words or "The process that loads it ended without a word; the replica's log has more."
            ) from None
        self._listening, self.parked = self._spawn(self._listen(reader)), True
        await self.wake()

    async def run(
        self,
        *,
        user: str,
        compress: bool,
        env: dict[str, Any],
        payload: bytes,
        sink: Sink,
        time_limit_s: float,
        keeper: Keeper,
        started: Callable[[], None],
        said: Callable[[str], None],
    ) -> Done:
        """Run one job on an executor that has run nothing before, or only jobs of ``user`` that left it as it was.

        It is stopped at ``time_limit_s`` at last.

        Raises:
            UserCodeFailed: the traced block raised; the message is what to show.
            TimeLimitReached, ResultTooLarge: a limit was reached.
            ExecutorLost: the executor died or spoke nonsense.
        """
        began = time.perf_counter()
        executor = await self._take(user)
        keeping = KeepingDialog(keeper, executor.writer)
        well = False
        try:
            async with asyncio.timeout(time_limit_s):
                executor.writer.write(frames.words(Kind.JOB, compress=compress, env=env))
                executor.writer.write(frames.pack(Kind.PAYLOAD, payload))
                result_bytes, seconds = await self._follow(executor, sink, keeping, started, said)
            well = True
        except TimeoutError:
            raise TimeLimitReached(
                f"The job ran longer than the {time_limit_s:g} s it may take and was stopped. "
                "Trace fewer prompts or tokens at once, or split the work into several jobs."
            ) from None
        except (FrameError, asyncio.IncompleteReadError, ConnectionError) as error:
            raise ExecutorLost(
                "The process that ran this job ended without an answer; most often it needed more memory than it may."
            ) from error
        finally:
            if well:
                judging = self._spawn(self._keep_if_pristine(executor))
                self._judging[judging] = user
                judging.add_done_callback(self._judging.pop)
            else:
                self._end(executor)
            self._spawn(self._refill())
            await keeping.close()
        seconds["executor"] = round(time.perf_counter() - began, 6)
        return Done(result_bytes, seconds)

    async def park(self) -> None:
        """End all executors, none of which runs a job; the zygote waits, with the weights in the host's memory."""
        self.parked = True
        await self.judged()
        while waiting := self._ready or self._kept:
            self._end(waiting.pop())

    async def wake(self) -> None:
        """Take jobs again after :meth:`park`."""
        while self.parked and len(self._ready) < self._target:
            self._ready.append(await self._fork())
        self.parked = False

    async def stop(self) -> None:
        """End the zygote; all its executors go with it."""
        self._target = 0  # no more forks
        if self._control and self._keep:
            self._keep.close()
            self._control.close()
        if self._zygote:
            self._zygote.kill()
            await asyncio.to_thread(self._zygote.wait)
        await asyncio.gather(*self._tasks, return_exceptions=True)  # each ends when the zygote is gone
        for executor in (*self._ready, *self._kept):
            executor.writer.close()

    async def judged(self) -> None:
        """Wait until every executor whose job has ended is kept or ended."""
        await asyncio.gather(*self._judging)

    # -- one job --------------------------------------------------------------

    async def _follow(
        self,
        executor: _Executor,
        sink: Sink,
        keeping: KeepingDialog,
        started: Callable[[], None],
        said: Callable[[str], None],
    ) -> tuple[int, dict[str, float]]:
        result_bytes, has_started, output = 0, False, Output(said)
        while True:
            kind, body = await frames.read(executor.reader)
            if kind is Kind.RESULT:
                result_bytes += len(body)
                if result_bytes > self._limits.result_bytes:
                    raise ResultTooLarge(
                        f"The saved values are larger than the {self._limits.result_bytes} bytes one job may return. "
                        "Save less: reduce on the server, slice before .save(), or split the work."
                    )
                await sink.write(body)
            elif kind is Kind.LOG:
                output.take(body)
            elif kind in keeping_dialog.KINDS:
                await keeping.hear(kind, body)
            elif kind is Kind.STARTED and not has_started:
                has_started = True
                started()
            elif kind is Kind.FAILED:
                raise UserCodeFailed(frames.text(str(frames.read_words(body).get("description", "")))[:100_000])
            elif kind is Kind.DONE:
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
        if len(self._kept) > 2 * self._target:
            self._end(self._kept.popleft())
        asyncio.get_running_loop().call_later(_IDLE_S, self._end_if_idle, executor, executor.jobs)

    def _end_if_idle(self, executor: _Executor, jobs: int) -> None:
        if executor.jobs == jobs and executor in self._kept:
            self._kept.remove(executor)
            self._end(executor)

    def _end(self, executor: _Executor) -> None:
        executor.writer.close()
        self._tell(frames.words(Kind.KILL, pid=executor.pid))

    # -- the zygote -----------------------------------------------------------

    async def _load(self, reader: asyncio.StreamReader, say: Callable[[str], None]) -> None:
        """Wait until the model is loaded; keep what this load has shown for later ones."""
        began = time.monotonic()
        told = await wait_until_loaded(reader, say, self._experience.load_s)
        self.parameters = int(told["parameters"])
        if told.get("profile"):
            remember(self._model, self._folder, profile=Profile.model_validate(told["profile"]))
        else:  # measuring took its time, too, and is not done again
            remember(self._model, self._folder, load_s=round(time.monotonic() - began, 1))

    def _config(self) -> ZygoteConfig:
        return ZygoteConfig(
            entry=self._entry,
            models_dir=str(self._folder.parent),
            threads=self._limits.threads,
            memory_bytes=self._limits.memory_bytes,
            tmp_bytes=self._limits.tmp_bytes,
            shown=tuple(str(folder) for folder in jail.readable([self._folder, *self._adapters.values()])),
            adapters={name: str(folder) for name, folder in self._adapters.items()},
            profile=self._experience.profile.model_dump() if self._experience.profile else None,
            parts=self._parts,
        )

    def _tell(self, frame: bytes, descriptor: int | None = None) -> None:
        assert self._control
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self._control, [frame], [descriptor] if descriptor is not None else [])

    async def _fork(self) -> _Executor:
        if not self.alive:
            raise ExecutorLost("The model's process has ended; it is started again.")
        ours, theirs = socket.socketpair()
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forked.append(answer)
        self._tell(frames.pack(Kind.FORK), theirs.fileno())
        theirs.close()
        try:
            pid = await asyncio.shield(answer)  # others wait behind it in the line: it is answered in any case
        except asyncio.CancelledError:
            ours.close()  # an executor whose socket is closed ends
            raise
        if pid == 0:
            ours.close()
            raise ExecutorLost("An executor could not be closed in and was not started; the replica's log has more.")
        reader, writer = await asyncio.open_connection(sock=ours, limit=2 * frames.PIECE_BYTES)
        return _Executor(pid, reader, writer)

    async def _refill(self) -> None:
        await asyncio.sleep(_REFILL_AFTER_S)
        if self.alive and not self.parked and len(self._ready) + len(self._forked) < self._target:
            with contextlib.suppress(ExecutorLost):  # the next job meets it and says so
                self._ready.append(await self._fork())
                if self.parked:  # since then
                    self._end(self._ready.pop())

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Hear which executors were forked; ends with the zygote."""
        try:
            while True:
                kind, body = await frames.read(reader)
                if kind is Kind.FORKED and self._forked:
                    self._forked.popleft().set_result(int(frames.read_words(body)["pid"]))
        except asyncio.IncompleteReadError:
            log.warning("zygote ended", model=self._entry.get("id"), status=self._zygote and self._zygote.poll())
        finally:
            while self._forked:
                self._forked.popleft().set_result(0)

    async def _keep_errors(self, zygote: subprocess.Popen[bytes]) -> None:
        """Pass on what the zygote writes to standard error, and keep its last line for the error message."""
        assert zygote.stderr
        with zygote.stderr as said:
            while line := await asyncio.to_thread(said.readline):
                text = line.decode(errors="replace").rstrip()[:2000]
                log.info("zygote", said=text)
                self._last_words = text or self._last_words

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
