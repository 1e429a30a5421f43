"""A zygote from outside the jail: started through bubblewrap, heard, told what to do.

One for each :class:`~edif_backend.executors.pool.ExecutorPool`, in the replica's process.  Nothing that it says is
believed beyond what a field can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import structlog

from edif_backend.errors import ExecutorLost, ModelUnusable
from edif_backend.executors import frames, jail
from edif_backend.executors.frames import Kind
from edif_backend.executors.progress import wait_until_loaded
from edif_backend.executors.zygote_config import ZygoteConfig
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.experience import experience_with, remember
from edif_backend.models.peaks import Profile

log = structlog.get_logger(__name__)

_Answer = TypeVar("_Answer")

#: The zygote's torch sees no GPU, also where the model stays on the host: transformers would use it there, and CUDA
#: does not survive the forks (``device_memory``).
_ENVIRONMENT = {
    "EDIF_ROLE": "executor",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
}
#: GPUs numbered as their nodes are; code is loaded when it is used; no files of compiled kernels.
_OF_GPUS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_MODULE_LOADING": "LAZY", "CUDA_CACHE_DISABLE": "1"}

#: Bubblewrap ends with this and the number of the signal added, where one has ended what it holds.
_KILLED = 128


class ZygoteProcess:
    """The process, its control connection and what it is asked.

    Args:
        entry: the catalogue entry of the model.
        folder: the model's files.
        adapters: folders of its adapters.
    """

    def __init__(self, entry: ModelEntry, folder: Path, adapters: dict[str, Path]) -> None:
        self._entry, self._folder, self._adapters = entry, folder, adapters
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._forked: deque[asyncio.Future[int]] = deque()
        self._checks: deque[asyncio.Future[bool]] = deque()
        self._waking: deque[asyncio.Future[str]] = deque()
        self._hearing: list[asyncio.Task[None]] = []
        self._keep: asyncio.StreamWriter | None = None
        self._last_words = ""
        self.experience = experience_with(entry, folder)
        self.parameters = 0

    @property
    def alive(self) -> bool:
        """Whether it is there and heard."""
        return len(self._hearing) > 1 and not self._hearing[1].done()

    @property
    def pid(self) -> int:
        """Of bubblewrap, which is above all that runs in the jail."""
        assert self._process
        return self._process.pid

    @property
    def forking(self) -> int:
        """Forks that were asked for and have not come yet."""
        return len(self._forked)

    async def start(self, config: ZygoteConfig, say: Callable[[str], None]) -> None:
        """Start it and wait until its model is loaded; ``say`` is told how far it is.

        Raises:
            JailUnavailable: bubblewrap is missing.
            ModelUnusable: it ended before it was ready.
            ExecutorLost: it was killed before it was ready.
        """
        ours, theirs = socket.socketpair()
        line = jail.command(
            ["-m", "edif_backend.executors.zygote", str(theirs.fileno()), config.dumps()],
            folders=[self._folder, *self._adapters.values()],
            environment={**_ENVIRONMENT, **(_OF_GPUS if config.nodes else {})},
            nodes=config.nodes,
        )
        # Not asyncio's own: its transport reads whole buffers ahead, and the zygote is waited for in one place only.
        self._process = await asyncio.to_thread(
            lambda: subprocess.Popen(line, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        )
        theirs.close()
        self._control = ours
        # The writer is kept only because the connection closes when it is collected.
        reader, self._keep = await frames.Reader.connected(ours.dup())
        self._hearing.append(asyncio.create_task(self._keep_errors(self._process)))
        try:
            await self._load(reader, say)
        except asyncio.IncompleteReadError:
            status = await asyncio.to_thread(self._process.wait)
            if status < 0 or status > _KILLED:
                raise ExecutorLost("The process that loads the model was killed; it is started again.") from None
            raise ModelUnusable(
                self._last_words or "The process that loads it ended without a word; the replica's log has more."
            ) from None
        self._hearing.append(asyncio.create_task(self._listen(reader)))

    async def fork(self) -> tuple[int, socket.socket]:
        """A new executor: its pid as the zygote sees it, and our end of its socket.

        Raises:
            ExecutorLost: it could not be made.
        """
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
        return pid, ours

    def kill(self, pid: int) -> None:
        """End an executor."""
        self._tell(frames.words(Kind.KILL, pid=pid))

    async def check(self) -> bool:
        """Whether the weights on the devices are right; they are again where not. True when nobody is left to ask."""
        return not self.alive or await self._asked(Kind.CHECK, self._checks)

    def leave_devices(self) -> None:
        """Let go of the devices; the weights stay in the host's memory."""
        self._tell(frames.pack(Kind.PARK))

    async def take_devices(self) -> None:
        """Put the weights onto the devices again.

        Raises:
            ModelUnusable: they do not take them.
        """
        if refused := await self._asked(Kind.WAKE, self._waking):
            raise ModelUnusable(refused)

    async def stop(self) -> None:
        """End it; all its executors go with it."""
        if self._control and self._keep:
            self._keep.close()
            self._control.close()
        if self._process:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        await asyncio.gather(*self._hearing, return_exceptions=True)  # each ends when the zygote is gone

    async def _asked(self, kind: Kind, waiting: deque[asyncio.Future[_Answer]]) -> _Answer:
        answer: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
        waiting.append(answer)
        self._tell(frames.pack(kind))
        return await answer

    def _tell(self, frame: bytes, descriptor: int | None = None) -> None:
        assert self._control
        if self._control.fileno() < 0:
            return  # it was stopped, and who waits for an answer gets one when it is gone
        with contextlib.suppress(BrokenPipeError):
            socket.send_fds(self._control, [frame], [descriptor] if descriptor is not None else [])

    async def _load(self, reader: frames.Reader, say: Callable[[str], None]) -> None:
        """Wait until the model is loaded; keep what this load has shown for later ones."""
        began = time.monotonic()
        told = await wait_until_loaded(reader, say, self.experience.load_s)
        self.parameters = int(told["parameters"])
        if told.get("profile"):
            remember(self._entry, self._folder, profile=Profile.model_validate(told["profile"]))
        else:  # measuring took its time, too, and is not done again
            remember(self._entry, self._folder, load_s=round(time.monotonic() - began, 1))

    async def _listen(self, reader: frames.Reader) -> None:
        """Hear its answers; ends with it."""
        try:
            while True:
                kind, body = await frames.read(reader)
                told = frames.read_words(body)
                if kind is Kind.FORKED and self._forked:
                    self._forked.popleft().set_result(int(told["pid"]))
                elif kind is Kind.CHECKED and self._checks:
                    self._checks.popleft().set_result(bool(told["intact"]))
                elif kind is Kind.AWAKE and self._waking:
                    self._waking.popleft().set_result(frames.text(str(told["refused"])))
                elif kind is Kind.EXITED:
                    log.debug("a process of the zygote has ended", pid=told.get("pid"), status=told.get("status"))
        except asyncio.IncompleteReadError:
            log.warning("zygote ended", model=self._entry.id, status=self._process and self._process.poll())
        finally:
            _answer_all(self._forked, 0)
            _answer_all(self._checks, True)  # its executors are gone with it
            _answer_all(self._waking, "The model's process has ended; it is started again.")

    async def _keep_errors(self, process: subprocess.Popen[bytes]) -> None:
        """Pass on what it writes to standard error, and keep its last line for the error message."""
        assert process.stderr
        with process.stderr as said:
            while line := await asyncio.to_thread(said.readline):
                text = line.decode(errors="replace").rstrip()[:2000]
                log.info("zygote", said=text)
                self._last_words = text or self._last_words


def _answer_all(waiting: deque[asyncio.Future[Any]], answer: object) -> None:
    while waiting:
        waiting.popleft().set_result(answer)
