"""Is this executor as it was before its first job, so that it may take the next job of the same user?

Asked by :mod:`~edif_backend.executors.executor` after each job, inside the jail; never trusted with more than that, for
an executor goes to nobody else whatever it says.  Three things must be as they were: every object of the heap
(:mod:`~edif_backend.executors.heap`), the weights' pages, and what lies outside the heap: the state of torch's and
Python's native code, the process's standing with the kernel, its private files.  Any difference ends the executor.
"""

from __future__ import annotations

import abc
import atexit
import contextlib
import contextvars
import decimal
import faulthandler
import gc
import inspect
import locale
import mmap
import os
import resource
import select
import signal
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch

from edif_backend.executors.heap import Heap, works
from edif_backend.executors.own_pages import OwnPages, watchable
from edif_backend.executors.pages import Stretch, give_back_free

#: Lines of /proc/self/status that a job can change and nobody sees otherwise.
_STATUS = (b"Umask", b"Threads", b"SigBlk", b"SigIgn", b"SigCgt", b"NoNewPrivs", b"Seccomp_filters", b"Cpus_allowed")
_RESIDENT = b"RssAnon"
#: What torch tells about itself without being given anything.
_TELLING = ("_get_", "_is_", "_are_", "_len_", "get_", "is_", "are_")
#: What looks for devices instead of telling how something stands, and starts CUDA by that.
_LOOKS_FOR_DEVICES = ("_get_accelerator",)
_LIMITS = tuple(getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_"))
_DESCRIPTORS = 256
#: Without making each number and answer a name, which takes ten times as long.
_handler_of = inspect.unwrap(signal.getsignal)
_SIGNALS = tuple(map(int, signal.valid_signals()))
_PRIVATE = ("/tmp", "/dev/shm")
_SMALLEST = 5e-324
_NOTHING = object()
#: An executor that has come to hold so much more is not kept.
_GROWTH_BYTES = 64 << 20

#: One byte for each reach for native code or memory, where nothing else would notice a change.
_reached = bytearray()


class CannotTell(Exception):
    """Changes would not be noticed here, so every executor takes one job; the message says why."""


def _note_reach(event: str, _: tuple[Any, ...]) -> None:
    if event.startswith("ctypes.") or event in ("os.putenv", "os.unsetenv", "sys.addaudithook"):
        _reached.append(1)


@dataclass(frozen=True, slots=True)
class Untouched:
    """What the zygote hands its forks: everything as it is before any job."""

    heap: Heap
    tensors: tuple[torch.Tensor, ...]
    weights: tuple[Stretch, ...]
    switches: tuple[Callable[[], Any], ...]

    @classmethod
    def now(cls, module: torch.nn.Module, rehearse: Callable[[], None], weights_here: bool = True) -> Untouched:
        """Note everything; ``rehearse`` plays a job through.

        Args:
            weights_here: jobs compute with the host's weights; those on devices are their keeper's business.

        Raises:
            CannotTell: not with this Python, or not with this model.
        """
        if not works():
            raise CannotTell("this Python keeps its objects otherwise than CPython 3.11 and 3.12 do")
        sys.addaudithook(_note_reach)
        tensors = (*module.parameters(), *module.buffers())
        switches = tuple(_switches())
        try:
            return cls(Heap.settled(rehearse), tensors, tuple(_stretches(tensors)) if weights_here else (), switches)
        except NotImplementedError as error:
            raise CannotTell(str(error)) from error

    def watched(self) -> list[Stretch]:
        """The memory that forks ask about after each job; empty where that cannot be noted as it is written to."""
        return watchable(self.heap.pages, self.weights)


class Pristine:
    """One executor: made behind its walls, before its first job; asked after each.

    Args:
        own: tells the pages of this process.
        status: its file of that name in ``/proc/self``, opened before ``/proc`` was covered.
        rehearse: plays a job through, where this process computes elsewhere than the zygote.

    Raises:
        NotImplementedError: jobs change here what cannot be put back.
    """

    def __init__(
        self,
        untouched: Untouched,
        own: OwnPages,
        status: BinaryIO,
        rehearse: Callable[[], None] | None = None,
    ) -> None:
        self._untouched = untouched
        self._own = own
        self._status = status
        self._resident_bytes = 0
        self._any_descriptor = select.poll()
        for descriptor in range(_DESCRIPTORS):
            self._any_descriptor.register(descriptor, 0)
        self._before = dict(self._outside())
        gc.collect()
        untouched.heap.accept(own)
        if rehearse:
            untouched.heap.settle(own, rehearse)
        give_back_free()  # what the notes have passed through
        self._before = dict(self._outside())  # the first time, some of it was made by looking

    def changed(self) -> str:
        """Put caches back, let go what the job has left, and name what has changed; empty when nothing has."""
        heap = self._untouched.heap
        heap.let_go()
        if found := heap.changed(self._own):
            return found
        now = dict(self._outside())
        if differing := [name for name, value in self._before.items() if now[name] != value]:
            return ", ".join(differing)
        return "weights" if self._own.any(self._untouched.weights) else self._grown()

    def _grown(self) -> str:
        now = next(int(line.split()[1]) * 1024 for line in self._lines() if line.startswith(_RESIDENT))
        self._resident_bytes = self._resident_bytes or now
        return "memory" if now - self._resident_bytes > _GROWTH_BYTES else ""

    def _lines(self) -> list[bytes]:
        self._status.seek(0)
        return self._status.read().splitlines()

    def _outside(self) -> Iterator[tuple[str, Any]]:
        """What no object of the heap shows, by name."""
        yield "native code", len(_reached)
        yield "switches of torch", [switch() for switch in self._untouched.switches]
        yield "weights", [(t._version, t.requires_grad, t.grad, t.data_ptr()) for t in self._untouched.tensors]
        yield "numbers", (np.geterr(), repr(decimal.getcontext()), _SMALLEST * 1.0)
        yield "places", (locale.setlocale(locale.LC_ALL), time.tzname, os.getcwd())
        yield "context", {variable.name: id(value) for variable, value in contextvars.copy_context().items()}
        yield (
            "interpreter",
            (
                *(sys.getrecursionlimit(), sys.getswitchinterval(), sys.gettrace(), sys.getprofile()),
                *(sys.get_int_max_str_digits(), sys.get_asyncgen_hooks(), sys.get_coroutine_origin_tracking_depth()),
                *(gc.isenabled(), gc.get_threshold(), gc.get_debug(), tracemalloc.is_tracing()),
                *(atexit._ncallbacks(), abc.get_cache_token(), faulthandler.is_enabled()),
            ),
        )
        yield (
            "signals",
            (
                [_handler_of(number) for number in _SIGNALS],
                [signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)],
            ),
        )
        yield "limits", ([resource.getrlimit(limit) for limit in _LIMITS], os.getpriority(os.PRIO_PROCESS, 0))
        yield "process", [line for line in self._lines() if line.startswith(_STATUS)]
        yield "descriptors", list(_descriptors(self._any_descriptor))
        yield "files", [entry for folder in _PRIVATE for entry in _folders(folder)]


def _switches() -> Iterator[Callable[[], Any]]:
    """Functions of torch that tell how one of its switches stands."""
    for name in sorted(dir(torch._C)):
        switch = getattr(torch._C, name)
        if not name.startswith(_TELLING) or name in _LOOKS_FOR_DEVICES:
            continue
        if not callable(switch) or isinstance(switch, type):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an old name of another one
            told: Any = _NOTHING  # it wants an argument, or a device that is not there
            with contextlib.suppress(Exception):
                told = switch()
        if isinstance(told, bool | int | float | str | tuple | torch.dtype | None):
            yield switch


def _stretches(tensors: tuple[torch.Tensor, ...]) -> Iterator[Stretch]:
    """The pages of these tensors, in few stretches."""
    storages = {tensor.untyped_storage() for tensor in tensors if tensor.device.type == "cpu" and tensor.numel()}
    ends = sorted((storage.data_ptr(), storage.data_ptr() + storage.nbytes()) for storage in storages)
    start = end = 0
    pages = [
        (first // mmap.PAGESIZE * mmap.PAGESIZE, -(-last // mmap.PAGESIZE) * mmap.PAGESIZE) for first, last in ends
    ]
    for first, last in pages:
        if first > end:
            if end:
                yield start, end - start
            start = first
        end = max(end, last)
    if end:
        yield start, end - start


def _descriptors(every: select.poll) -> Iterator[tuple[int, int, int]]:
    """Those that are open, each with what it is of; ``every`` has them all, and one call tells which are not open."""
    try:
        closed = {descriptor for descriptor, events in every.poll(0) if events & select.POLLNVAL}
    except OSError:  # the limit is lower now, and that is told as well
        closed = set()
    for descriptor in range(_DESCRIPTORS):
        if descriptor not in closed:
            with contextlib.suppress(OSError):
                found = os.fstat(descriptor)
                yield descriptor, found.st_dev, found.st_ino


def _folders(folder: str) -> Iterator[tuple[str, int]]:
    """A folder of this executor and those in it, with the time of the last change, which nobody can set."""
    here = os.stat(folder)
    yield folder, here.st_ctime_ns
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_dev == here.st_dev:
            yield from _folders(entry.path)
