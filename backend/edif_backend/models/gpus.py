"""The NVIDIA GPUs of this machine and what models may take of each, by NVIDIA's management library.

Asked when a node of the Ray cluster is started (:mod:`edif_backend.cli.ray_node`); starts no CUDA.
"""

from __future__ import annotations

import pynvml

from edif_backend.errors import GpusUnusable
from edif_backend.models.devices import CONTEXT_BYTES


def found(slots: int) -> tuple[tuple[str, int], ...]:
    """Each GPU as ``cuda:N``, N as in ``/dev/nvidiaN``, and the bytes that are left for models on it.

    Args:
        slots: jobs at the same time; a keeper and, at most, two executors for each besides one being made hold CUDA.

    Raises:
        GpusUnusable: there is no driver, or no GPU.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise GpusUnusable(
            f"EDIF_BACKEND_USE_GPUS is set, and NVIDIA's driver does not answer ({error}): install it, or unset that."
        ) from error
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        kept_back = (2 * slots + 2) * CONTEXT_BYTES
        sizes = [
            (pynvml.nvmlDeviceGetMinorNumber(handle), int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) - kept_back)
            for handle in handles
        ]
    finally:
        pynvml.nvmlShutdown()
    if not any(size > 0 for _, size in sizes):
        raise GpusUnusable("EDIF_BACKEND_USE_GPUS is set, and no GPU has memory left for a model beside CUDA itself.")
    return tuple((f"cuda:{number}", size) for number, size in sorted(sizes) if size > 0)
