"""Memory of a device that several processes map: made by one, handed on as a file descriptor, opened by the others.

Used by the weights' keeper and by the executors of a model on devices, inside the jail.  CUDA's virtual memory
management (cuMem…, CUDA 10.2 and later) is called by ctypes: its handles are descriptors, which pass between namespaces
as any other does.  The device ``cpu`` is the host's memory in a memfd, by which everything but the calls of CUDA is
tested where there is no GPU.  Imports torch only where a tensor is asked for.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_PINNED, _AS_DESCRIPTOR, _ON_DEVICE, _MINIMUM = 1, 1, 1, 0
_READ, _READ_AND_WRITE = 1, 3


class DeviceMemoryError(Exception):
    """The driver refused; the message names the call and its code."""


class _Location(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int))


class _Properties(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("handles", ctypes.c_int),
        ("location", _Location),
        ("windows", ctypes.c_void_p),
        ("flags", ctypes.c_uint8 * 8),
    )


class _Access(ctypes.Structure):
    _fields_ = (("location", _Location), ("flags", ctypes.c_int))


@dataclass(frozen=True, slots=True)
class Block:
    """A mapped range of a device's memory."""

    device: str  #: ``cuda:N`` or ``cpu``
    address: int
    size_bytes: int  #: rounded up to what the device gives out, 2 MB on a GPU
    mapping: mmap.mmap | None = field(default=None, repr=False)  #: of the host's memory

    def tensor(self) -> torch.Tensor:
        """All of it as bytes, ``# (size_bytes,)`` of uint8; views of it are the weights."""
        import torch

        if self.mapping is not None:
            return torch.frombuffer(self.mapping, dtype=torch.uint8)
        return torch.as_tensor(_Described(self), device=self.device)


class _Described:
    """What torch takes a piece of device memory from without copying (the CUDA array interface)."""

    def __init__(self, block: Block) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": (block.size_bytes,),
            "typestr": "|u1",
            "data": (block.address, False),
            "strides": None,
            "version": 3,
        }


def hide_gpus() -> None:
    """Keep torch and transformers from starting CUDA in this process, the zygote, whose forks are to use it.

    With ``CUDA_VISIBLE_DEVICES`` empty nothing is put onto a GPU; but each forward pass of transformers asks whether a
    graph is being captured, and that question alone starts the driver.
    """
    import torch

    torch.cuda.is_current_stream_capturing = _not_capturing


def show_gpus() -> None:
    """Let this process, a fork of the zygote, use the GPUs that its jail shows."""
    import torch

    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    torch.cuda.is_current_stream_capturing = torch.cuda.graphs.is_current_stream_capturing


def _not_capturing() -> bool:
    return False


def make(device: str, size_bytes: int) -> tuple[Block, int]:
    """New memory on ``device``, and a descriptor that opens it elsewhere.

    Args:
        size_bytes: rounded up to what the device gives out.

    Raises:
        DeviceMemoryError: the driver refused; most often there is not so much left.
    """
    if device == "cpu":
        return _make_on_host(size_bytes)
    properties = _Properties(_PINNED, _AS_DESCRIPTOR, _Location(_ON_DEVICE, _number(device)))
    granularity = ctypes.c_size_t()
    _call("cuMemGetAllocationGranularity", ctypes.byref(granularity), ctypes.byref(properties), _MINIMUM)
    rounded = -(-size_bytes // granularity.value) * granularity.value
    handle = ctypes.c_uint64()
    _call("cuMemCreate", ctypes.byref(handle), ctypes.c_size_t(rounded), ctypes.byref(properties), ctypes.c_uint64(0))
    descriptor = ctypes.c_int(-1)
    _call("cuMemExportToShareableHandle", ctypes.byref(descriptor), handle, _AS_DESCRIPTOR, ctypes.c_uint64(0))
    return _mapped(handle, device, rounded, _READ_AND_WRITE), descriptor.value


def open_shared(descriptor: int, device: str, size_bytes: int) -> Block:
    """Map the memory behind ``descriptor`` for reading; the descriptor is closed: what is mapped stays.

    On a GPU a kernel that writes there fails, and the process's CUDA with it; on the host it changes a private copy.

    Args:
        size_bytes: as :class:`Block` has it.

    Raises:
        DeviceMemoryError: the driver refused.
    """
    try:
        if device == "cpu":
            mapping = mmap.mmap(descriptor, size_bytes, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
            return _on_host(mapping)
        handle = ctypes.c_uint64()
        _call("cuMemImportFromShareableHandle", ctypes.byref(handle), ctypes.c_void_p(descriptor), _AS_DESCRIPTOR)
        return _mapped(handle, device, size_bytes, _READ)
    finally:
        os.close(descriptor)


def _make_on_host(size_bytes: int) -> tuple[Block, int]:
    rounded = max(1, -(-size_bytes // mmap.PAGESIZE)) * mmap.PAGESIZE
    descriptor = os.memfd_create("weights")
    os.ftruncate(descriptor, rounded)
    return _on_host(mmap.mmap(descriptor, rounded)), descriptor


def _on_host(mapping: mmap.mmap) -> Block:
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    return Block("cpu", address, len(mapping), mapping)


def _number(device: str) -> int:
    return int(device.removeprefix("cuda:"))


def _mapped(handle: ctypes.c_uint64, device: str, size_bytes: int, flags: int) -> Block:
    address, size = ctypes.c_uint64(), ctypes.c_size_t(size_bytes)
    nothing, none = ctypes.c_uint64(0), ctypes.c_size_t(0)
    _call("cuMemAddressReserve", ctypes.byref(address), size, none, nothing, nothing)
    _call("cuMemMap", address, size, none, handle, nothing)
    access = _Access(_Location(_ON_DEVICE, _number(device)), flags)
    _call("cuMemSetAccess", address, size, ctypes.byref(access), ctypes.c_size_t(1))
    _call("cuMemRelease", handle)  # the mapping holds it
    return Block(device, address.value, size_bytes)


@cache
def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise DeviceMemoryError(f"NVIDIA's driver library is not there: {error}") from error


def _call(name: str, *arguments: Any) -> None:
    code = getattr(_driver(), name)(*arguments)
    if code:
        said = ctypes.c_char_p()
        _driver().cuGetErrorName(code, ctypes.byref(said))
        raise DeviceMemoryError(f"{name}: {(said.value or b'error').decode()} ({code})")
