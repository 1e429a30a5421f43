"""The pages that an executor no longer shares with its zygote: whatever its jobs have changed lies on these.

Asked after each job by :mod:`~edif_backend.executors.heap` and :mod:`~edif_backend.executors.pristine`, in the jail.
Linux notes since 6.7 which pages are written to (the asynchronous write protection of userfaultfd) and tells them all
at once (``PAGEMAP_SCAN``); :class:`Watch` begins that behind the fork, while the system call can still be made.  Where
the kernel or the machine's settings do not have it, :class:`Walk` reads the page map, which takes ten times as long.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from edif_backend.executors import seccomp
from edif_backend.executors.pages import OWN, PRESENT, Stretch, private_memory

Numbers = npt.NDArray[np.int64]

_PAGE = mmap.PAGESIZE
_WORD = 8
#: Pages so close to each other are looked up in one reading of the page map.
_NEAR_PAGES = 64
#: Of an entry of the page map: swapped out, and a page of a file.
_SWAPPED, _OF_FILE = 1 << 62, 1 << 61

_O_CLOEXEC, _USER_MODE_ONLY = os.O_CLOEXEC, 1
_API, _FEATURES = 0xAA, 1 << 13 | 1 << 15  # also pages that are not there yet; nobody is told when one is written to
_OF_WRITES = 2
_PROTECT, _INSIST = 1, 2  # begin to note; refuse what is not noted
_WRITTEN = 1 << 1
_REGIONS = 2048

_libc = ctypes.CDLL(None, use_errno=True)


def _request(kind: int, number: int, size: int) -> int:
    """The number of an ioctl that reads and writes a structure of ``size`` bytes."""
    return 3 << 30 | size << 16 | kind << 8 | number


_AGREE, _REGISTER, _SCAN = _request(0xAA, 0x3F, 24), _request(0xAA, 0, 32), _request(ord("f"), 16, 96)


class OwnPages(Protocol):
    """What is asked of one process's memory."""

    def among(self, pages: Numbers) -> Numbers:
        """Those of ``pages`` (numbers, ascending) that are this process's own; nothing was written to all others.

        Raises:
            OSError: the kernel does not tell.
        """

    def since_fork(self, pages: Numbers) -> Numbers:
        """The same, what was written between the fork and this object's making included."""

    def any(self, stretches: Sequence[Stretch]) -> bool:
        """Whether any page of weights in these stretches was written to."""


class Walk:
    """By the page map, entry by entry.

    Args:
        pagemap: this process's file of that name in ``/proc/self``.
    """

    def __init__(self, pagemap: BinaryIO) -> None:
        self._pagemap = pagemap
        self._pages = np.empty(0, np.int64)

    def among(self, pages: Numbers) -> Numbers:
        """See :meth:`OwnPages.among`."""
        if pages is not self._pages:
            self._plan(pages)
        entries = memoryview(bytearray(sum(count for _, count in self._runs) * _WORD))
        at = 0
        for first, count in self._runs:
            piece = self._read(first, count)
            entries[at : at + len(piece)] = piece
            at += len(piece)
        found = np.frombuffer(entries, np.uint64)[self._entries_at]
        own: Numbers = pages[(found & np.uint64(PRESENT | OWN)) != np.uint64(PRESENT)]
        return own

    since_fork = among

    def _plan(self, pages: Numbers) -> None:
        """Runs of pages close to each other: the first and how many, and where each page is among what is read."""
        runs = np.split(pages, np.flatnonzero(np.diff(pages) > _NEAR_PAGES) + 1)
        self._runs = [(int(run[0]), int(run[-1] - run[0]) + 1) for run in runs if run.size]
        starts = np.cumsum([0, *(count for _, count in self._runs[:-1])])
        self._entries_at = np.concatenate([run - run[0] + start for run, start in zip(runs, starts, strict=True)])
        self._pages = pages

    def any(self, stretches: Sequence[Stretch]) -> bool:
        """See :meth:`OwnPages.any`."""
        for start, length in stretches:
            entries = np.frombuffer(self._read(start // _PAGE, length // _PAGE), np.uint64)
            own = (entries & np.uint64(PRESENT | OWN | _OF_FILE)) == np.uint64(PRESENT | OWN)
            if np.any(own | ((entries & np.uint64(_SWAPPED)) != 0)):
                return True
        return False

    def _read(self, first: int, count: int) -> bytes:
        self._pagemap.seek(first * _WORD)
        piece = self._pagemap.read(count * _WORD)
        if len(piece) != count * _WORD:
            raise OSError("the kernel does not tell which pages are this process's own")
        return piece


class Watch:
    """By the kernel's own note of what was written to, from now on; to be made right behind the fork.

    The descriptor of userfaultfd stays open, for with it the notes would end.  It hears nothing (no fault ever waits
    for it), it knows faults of user mode alone, and behind the walls no request can be made of it (``seccomp``).

    Args:
        pagemap: this process's file of that name in ``/proc/self``.
        stretches: what may be asked about, each within one private mapping (:func:`watchable`).

    Raises:
        OSError: the kernel does not have it, or does not let us.
    """

    def __init__(self, pagemap: BinaryIO, stretches: Sequence[Stretch]) -> None:
        self._pagemap = pagemap
        self._stretches = stretches
        self._regions = np.empty((_REGIONS, 3), np.int64)
        self._regions_at = self._regions.ctypes.data
        notes = _userfaultfd()
        try:
            fcntl.ioctl(notes, _AGREE, bytearray(struct.pack("3Q", _API, _FEATURES, 0)))
            for start, length in stretches:
                fcntl.ioctl(notes, _REGISTER, bytearray(struct.pack("4Q", start, length, _OF_WRITES, 0)))
                self._scan(start, start + length, _PROTECT | _INSIST, into=0)
        except OSError:
            os.close(notes)  # and nothing is noted any more
            raise

    def among(self, pages: Numbers) -> Numbers:
        """See :meth:`OwnPages.among`."""
        written = [regions for stretch in self._stretches for regions in self._written(*stretch)]
        starts, ends = np.concatenate(written).T // _PAGE
        # Each region's first and last place among the pages, and then all places in between.
        first, behind = np.searchsorted(pages, starts), np.searchsorted(pages, ends)
        counts = behind - first
        places = np.arange(counts.sum()) + np.repeat(first - np.cumsum(counts) + counts, counts)
        own: Numbers = pages[places]
        return own

    def since_fork(self, pages: Numbers) -> Numbers:
        """See :meth:`OwnPages.since_fork`: the page map knows, and is asked once."""
        return Walk(self._pagemap).among(pages)

    def any(self, stretches: Sequence[Stretch]) -> bool:
        """See :meth:`OwnPages.any`."""
        try:
            return any(len(regions) for stretch in stretches for regions in self._written(*stretch))
        except PermissionError:  # they are not watched
            return Walk(self._pagemap).any(stretches)

    def _written(self, start: int, length: int) -> Iterator[Numbers]:
        """Begin and end of each region in a stretch that was written to, in pieces."""
        end = start + length
        while start < end:
            count, start = self._scan(start, end, _INSIST, into=len(self._regions))
            yield self._regions[:count, :2].copy()

    def _scan(self, start: int, end: int, flags: int, into: int) -> tuple[int, int]:
        """Have the kernel go through some pages; how many regions it told, and how far it came."""
        told_at = self._regions_at if into else 0
        ask = bytearray(struct.pack("12Q", 96, flags, start, end, 0, told_at, into, 0, 0, _WRITTEN, 0, _WRITTEN))
        count = fcntl.ioctl(self._pagemap, _SCAN, ask)
        return count, int.from_bytes(ask[32:40], "little")


def watchable(pages: Numbers, weights: Sequence[Stretch]) -> list[Stretch]:
    """Few stretches that hold ``pages`` (numbers, ascending) and what of ``weights`` is anonymous memory.

    Each is within one mapping.  Empty when a page is in no private writable mapping, where nothing could be noted.
    Weights in mapped files are left out: each of their pages would have to be entered first, in every fork.
    """
    found, held = [], 0
    for mapping in private_memory():
        first, behind = np.searchsorted(pages, (mapping.start // _PAGE, mapping.end // _PAGE))
        if behind > first:
            held += behind - first
            start, end = int(pages[first]) * _PAGE, (int(pages[behind - 1]) + 1) * _PAGE
            found.append((start, end - start))
        for start, size in weights if mapping.anonymous else ():
            low, high = max(start, mapping.start), min(start + size, mapping.end)
            if low < high:
                found.append((low, high - low))
    return found if held == len(pages) else []


def own_pages(pagemap: BinaryIO, stretches: Sequence[Stretch]) -> OwnPages:
    """The quickest way there is here to tell which pages of ``stretches`` are own; none given: by the page map."""
    if stretches:
        with contextlib.suppress(OSError):
            return Watch(pagemap, stretches)
    return Walk(pagemap)


def _userfaultfd() -> int:
    """A descriptor of it.

    Raises:
        OSError: the kernel does not have it, or does not let us.
    """
    number = seccomp.number("userfaultfd", platform.machine())
    if number is None:
        raise OSError("not on this machine")
    descriptor: int = _libc.syscall(number, _O_CLOEXEC | _USER_MODE_ONLY)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"userfaultfd: {os.strerror(code)}")
    return descriptor
