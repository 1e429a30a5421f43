"""What a node says of its GPUs, by the management library's word."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from edif_backend.errors import GpusUnusable
from edif_backend.models import gpus
from edif_backend.models.devices import CONTEXT_BYTES

GIB = 1 << 30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """GPUs by the number of their node, with their memory; the library itself is not on this machine."""
    there: dict[int, int] = {}
    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(there),
        "nvmlDeviceGetHandleByIndex": lambda number: list(there)[number],
        "nvmlDeviceGetMinorNumber": lambda handle: handle,
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(total=there[handle]),
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    return there


def test_each_gpu_is_named_by_its_node_and_keeps_room_for_cuda(machine: dict[int, int]) -> None:
    machine.update({3: 48 * GIB, 1: 24 * GIB})
    names, sizes = zip(*gpus.found(slots=2), strict=True)
    assert names == ("cuda:1", "cuda:3")
    assert [48 * GIB - sizes[1], 24 * GIB - sizes[0]] == [6 * CONTEXT_BYTES] * 2


def test_a_gpu_without_room_is_left_out(machine: dict[int, int]) -> None:
    machine.update({0: 2 * GIB, 1: 48 * GIB})
    assert [name for name, _ in gpus.found(slots=2)] == ["cuda:1"]


def test_no_gpu_is_a_sentence(machine: dict[int, int]) -> None:
    with pytest.raises(GpusUnusable, match="no GPU has memory left"):
        gpus.found(slots=2)


def test_no_driver_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", init)
    with pytest.raises(GpusUnusable, match="driver does not answer"):
        gpus.found(slots=2)
