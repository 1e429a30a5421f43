"""Memory pages of the zygote, laid out so that a fork is cheap and its first job as fast as any later one.

A fork shares every page until it writes to it; the first job of a fork pays for each page it touches.  Three things
make that small, each measured in ``docs/decisions/executors-between-jobs.md``:

* weights in huge pages: a fork maps 512 times fewer of them, and touches none anew;
* the heap collapsed into huge pages: fork and exit take half the time;
* the pages that a rehearsed job writes to are made the fork's own *before* its job comes.

Called by the zygote, inside the jail.  Where the kernel cannot do a thing, it is left out, and jobs are only slower.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the replica's process reads this module too, and stays without torch
    import torch

_HUGE = 2 << 20
_PAGE = mmap.PAGESIZE
_MADV_HUGEPAGE, _MADV_POPULATE_WRITE, _MADV_COLLAPSE = 14, 23, 25
#: Of an entry of /proc/self/pagemap: present, and mapped by this process alone.
PRESENT, OWN = 1 << 63, 1 << 56

_libc = ctypes.CDLL(None, use_errno=True)
_malloc_trim = _libc.malloc_trim  # looked up now: that is a change which no executor may find later
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

#: A stretch of pages: address and length in bytes.
Stretch = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of ``/proc/self/maps``."""

    start: int
    end: int
    writable: bool
    name: str

    @property
    def anonymous(self) -> bool:
        """Whether it is no part of a file."""
        return self.name in ("", "[heap]")


def weights_to_huge_pages(module: torch.nn.Module) -> bool:
    """Move parameters and buffers on the CPU into one anonymous mapping of huge pages.

    Shared storages (tied weights) stay shared.  Returns whether it was done; it is not where the kernel gives no huge
    pages, for then a mapped file is cheaper to fork than anonymous memory.
    """
    import torch

    from edif_backend.models.quantized import plain_tensors

    tensors = [tensor for tensor in plain_tensors(module) if tensor.device.type == "cpu"]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors}
    sizes = {address: -(-storage.nbytes() // 64) * 64 for address, storage in storages.items() if storage.nbytes()}
    total = -(-sum(sizes.values()) // _HUGE) * _HUGE
    if not total:
        return False
    arena = mmap.mmap(-1, total + _HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(arena)) % _HUGE
    _advise((ctypes.addressof(ctypes.c_char.from_buffer(arena)) + start, total), _MADV_HUGEPAGE)
    room = torch.frombuffer(arena, dtype=torch.uint8)[start:]  # keeps the arena alive
    before = _huge_bytes()
    moved: dict[int, torch.UntypedStorage] = {}
    offset = 0
    for address, size in sizes.items():
        storage = storages[address]
        place = room[offset : offset + storage.nbytes()]
        place.copy_(torch.empty(0, dtype=torch.uint8).set_(storage))
        moved[address] = place
        offset += size
    if _huge_bytes() - before < total // 2:
        return False
    for tensor in tensors:
        place = moved.get(tensor.untyped_storage().data_ptr())
        if place is not None:
            tensor.data = _same_view(tensor, place)
    return True


def collapse_heap() -> None:
    """Ask the kernel to put this process's anonymous memory into huge pages."""
    for mapping in _mappings():
        if not mapping.writable or not mapping.anonymous:
            continue
        start = -(-mapping.start // _HUGE) * _HUGE
        length = mapping.end // _HUGE * _HUGE - start
        if length > 0:
            _advise((start, length), _MADV_HUGEPAGE)
            _advise((start, length), _MADV_COLLAPSE)


def touched_by(job: Callable[[], None]) -> list[Stretch]:
    """The pages that a fork of this process writes to while it runs ``job``; found by running it in one."""
    answer_out, answer_in = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(answer_out)
            job()
            with os.fdopen(answer_in, "wb") as file:
                file.writelines(struct.pack("QQ", *stretch) for stretch in _own_pages())
            status = 0
        finally:
            os._exit(status)
    os.close(answer_in)
    with os.fdopen(answer_out, "rb") as file:
        answer = file.read()
    _, status = os.waitpid(child, 0)
    return [] if status else [(start, length) for start, length in struct.iter_unpack("QQ", answer)]


def make_own(stretches: list[Stretch]) -> None:
    """Make these pages this process's own now; what is not mapped here is passed over."""
    for stretch in stretches:
        _advise(stretch, _MADV_POPULATE_WRITE)


def give_back_free() -> None:
    """Give memory that is allocated to nothing back to the kernel."""
    _malloc_trim(0)


def private_memory() -> list[Mapping]:
    """What this process may write to and shares with nobody but by forking, in the order of addresses."""
    return [mapping for mapping in _mappings() if mapping.writable and not mapping.name.startswith("[v")]


def _own_pages() -> list[Stretch]:
    """Writable pages that this process shares with nobody, in stretches."""
    found: list[Stretch] = []
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for mapping in private_memory():
            pagemap.seek(mapping.start // _PAGE * 8)
            entries = pagemap.read((mapping.end - mapping.start) // _PAGE * 8)
            address = mapping.start
            for (entry,) in struct.iter_unpack("Q", entries):
                if entry & PRESENT and entry & OWN:
                    if found and sum(found[-1]) == address:
                        found[-1] = (found[-1][0], found[-1][1] + _PAGE)
                    else:
                        found.append((address, _PAGE))
                address += _PAGE
    return found


def _mappings() -> Iterator[Mapping]:
    with open("/proc/self/maps", encoding="utf-8") as file:
        lines = file.readlines()
    for line in lines:
        addresses, permissions, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        yield Mapping(start, end, permissions.startswith("rw-p"), name[0].strip() if name else "")


def _huge_bytes() -> int:
    with open("/proc/self/smaps_rollup", encoding="utf-8") as file:
        return next((int(line.split()[1]) * 1024 for line in file if line.startswith("AnonHugePages")), 0)


def _same_view(tensor: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """``tensor`` as it is, but over the bytes at ``place``."""
    whole = place.view(tensor.dtype)
    return whole.as_strided(tensor.shape, tensor.stride(), whole.storage_offset() + tensor.storage_offset())


def _advise(stretch: Stretch, advice: int) -> None:
    _libc.madvise(*stretch, advice)  # an error means that the kernel cannot, and costs only time
