"""Which pages a fork no longer shares is told alike by the kernel's notes and by the page map."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edif_backend.executors.own_pages import Walk, Watch, own_pages, watchable

PAGE = mmap.PAGESIZE
COUNT = 64
PAGEMAP = Path("/proc/self/pagemap")


@contextmanager
def memory() -> Iterator[tuple[mmap.mmap, int]]:
    """Some private pages that are there, and the number of the first."""
    pages = mmap.mmap(-1, COUNT * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages[:] = b"x" * len(pages)
    yield pages, ctypes.addressof(ctypes.c_char.from_buffer(pages)) // PAGE


def in_a_fork(work: Callable[[], object]) -> object:
    """What ``work`` gives in a fork of this process."""
    answer_out, answer_in = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001 - it must not come back into pytest
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(answer_in, answer.encode())
        os._exit(0)
    os.close(answer_in)
    with os.fdopen(answer_out, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return json.loads(told)


def kernel_notes() -> bool:
    """Whether this kernel notes what is written to, and lets us ask."""
    with memory() as (_, first), PAGEMAP.open("rb", buffering=0) as pagemap:
        return isinstance(own_pages(pagemap, [(first * PAGE, PAGE)]), Watch)


NOTED = pytest.mark.skipif(not kernel_notes(), reason="this kernel does not note what is written to")
KINDS = [Walk, pytest.param(Watch, marks=NOTED)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_fork_writes_to_is_its_own(kind: type[Walk | Watch]) -> None:
    def work() -> object:
        with PAGEMAP.open("rb", buffering=0) as pagemap:
            own = Walk(pagemap) if kind is Walk else Watch(pagemap, [(first * PAGE, COUNT * PAGE)])
            asked = np.arange(first, first + COUNT, dtype=np.int64)[::2]
            told = [own.among(asked).tolist(), own.any([(first * PAGE, COUNT * PAGE)])]
            for page in (3, 4, 10, 63):
                pages[page * PAGE] = ord("y")
            stretches = [(first * PAGE, 3 * PAGE), ((first + 10) * PAGE, PAGE)]
            return [*told, (own.among(asked) - first).tolist(), *(own.any([stretch]) for stretch in stretches)]

    with memory() as (pages, first):
        assert in_a_fork(work) == [[], False, [4, 10], False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_before_it_was_asked_about_is_known_too(kind: type[Walk | Watch]) -> None:
    def work() -> object:
        pages[7 * PAGE] = ord("y")
        with PAGEMAP.open("rb", buffering=0) as pagemap:
            own = Walk(pagemap) if kind is Walk else Watch(pagemap, [(first * PAGE, COUNT * PAGE)])
            pages[9 * PAGE] = ord("y")
            return (own.since_fork(np.arange(first, first + COUNT, dtype=np.int64)) - first).tolist()

    with memory() as (pages, first):
        assert in_a_fork(work) == [7, 9]


@NOTED
def test_memory_that_is_not_noted_any_more_is_not_said_to_be_unchanged() -> None:
    def work() -> object:
        with PAGEMAP.open("rb", buffering=0) as pagemap:
            own = Watch(pagemap, [(first * PAGE, COUNT * PAGE)])
            os.closerange(pagemap.fileno() + 1, pagemap.fileno() + 9)  # its descriptor is among them
            own.among(np.array([first], np.int64))
        return "told"

    with memory() as (_, first):
        assert str(in_a_fork(work)).startswith("PermissionError")


@NOTED
def test_more_regions_than_are_told_at_once_are_all_told() -> None:
    def work() -> object:
        with PAGEMAP.open("rb", buffering=0) as pagemap:
            own = Watch(pagemap, [(first * PAGE, COUNT * PAGE)])
            own._regions = own._regions[:5]
            for page in range(0, COUNT, 2):
                pages[page * PAGE] = ord("y")
            return (own.among(np.arange(first, first + COUNT)) - first).tolist()

    with memory() as (pages, first):
        assert in_a_fork(work) == [*range(0, COUNT, 2)]


def test_without_anything_to_watch_or_where_it_cannot_be_the_page_map_is_read() -> None:
    with PAGEMAP.open("rb", buffering=0) as pagemap:
        before = [*map(str, Path("/proc/self/fd").iterdir())]
        assert isinstance(own_pages(pagemap, []), Walk)
        assert isinstance(own_pages(pagemap, [(1 << 46, PAGE)]), Walk)
        assert [*map(str, Path("/proc/self/fd").iterdir())] == before


def test_only_memory_that_can_be_watched_is() -> None:
    with memory() as (_, first), Path(__file__).open("rb") as file:
        asked = np.array([first + 1, first + 5], np.int64)
        found = watchable(asked, [(first * PAGE, 8 * PAGE)])
        assert found == [((first + 1) * PAGE, 5 * PAGE), (first * PAGE, 8 * PAGE)]
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as shared:
            place = np.frombuffer(shared, np.uint8).__array_interface__["data"][0]
            assert watchable(np.array(sorted([first, place // PAGE]), np.int64), []) == []
