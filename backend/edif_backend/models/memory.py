"""Memory of a model, counted before it is loaded.

Called by the dispatcher, which places models by it; imports no torch.  What is counted is memory that nobody else
shares: the weights as the zygote holds them, the processes, and the pages of executors' own.
"""

from __future__ import annotations

import contextlib
import math
import re
from pathlib import Path

import psutil

from edif_backend.models import layers
from edif_backend.models.catalogue import Dtype
from edif_backend.models.experience import experience_with
from edif_backend.models.snapshots import Snapshot, tensors_of

MIB = 1024 * 1024

#: Bytes of a weight; int8 is computed with in float32, four bits in bfloat16, and what is not quantized is held so.
_DTYPE_BYTES: dict[Dtype, float] = {
    "float32": 4,
    "bfloat16": 2,
    "float16": 2,
    "int8": 1,
    "nf4": 0.5625,
    "fp4": 0.5625,
}
_UNQUANTIZED_BYTES: dict[Dtype, int] = {"int8": 4, "nf4": 2, "fp4": 2}

#: Parameters that are no floating point numbers keep their size whatever the dtype.
_WHOLE_NUMBER_BYTES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}

#: Names of matrices that are not quantized: embeddings and output layers.
_NOT_QUANTIZED = re.compile(r"embed|wte|wpe|lm_head")

#: The replica's own process, a Ray actor.
ACTOR_BYTES = 230 * MIB

#: Python, torch and nnsight, loaded and rehearsed, without a model.
ZYGOTE_BYTES = 280 * MIB

#: Length of the job whose activations are counted for each slot.
_ORDINARY_TOKENS = 128

#: An executor's own pages, without the activations of its job.
EXECUTOR_BYTES = 30 * MIB

#: How much of the machine's memory loaded models may take, and those that wait warm, unless the operator says.
_SHARE, _WARM_SHARE = 0.7, 0.1

_EMBEDDING = re.compile(r"embed|wte|wpe")


def weight_bytes(snapshot: Snapshot, dtype: Dtype) -> int:
    """Bytes of the weights of ``snapshot`` once they are loaded as ``dtype``, from the headers of its files."""
    if dtype not in _UNQUANTIZED_BYTES:
        counted = snapshot.manifest.parameters.items()
        return int(sum(count * _WHOLE_NUMBER_BYTES.get(stored, _DTYPE_BYTES[dtype]) for stored, count in counted))
    return int(sum(_held_bytes(*tensor, dtype) for tensor in tensors_of(snapshot)))


def _held_bytes(name: str, stored: str, shape: list[int], dtype: Dtype) -> float:
    if dtype not in _UNQUANTIZED_BYTES:
        return math.prod(shape) * _WHOLE_NUMBER_BYTES.get(stored, _DTYPE_BYTES[dtype])
    if len(shape) == 2 and stored not in _WHOLE_NUMBER_BYTES and not _NOT_QUANTIZED.search(name):
        return math.prod(shape) * _DTYPE_BYTES[dtype] + (
            4 * shape[0] if dtype == "int8" else 64
        )  # a scale a row; a code
    return math.prod(shape) * _WHOLE_NUMBER_BYTES.get(stored, _UNQUANTIZED_BYTES[dtype])


def jailed_bytes(snapshot: Snapshot, slots: int) -> int:
    """Memory of the zygote of ``snapshot`` and of ``slots`` executors, each with a job of ordinary size."""
    profile = experience_with(snapshot.entry, snapshot.folder).profile
    job_bytes = profile.peak_bytes(1, _ORDINARY_TOKENS) if profile else 0
    return weight_bytes(snapshot, snapshot.entry.dtype) + ZYGOTE_BYTES + slots * (EXECUTOR_BYTES + job_bytes)


def replica_bytes(snapshot: Snapshot, slots: int) -> int:
    """Host memory of a replica of ``snapshot`` that runs ``slots`` jobs at once."""
    return ACTOR_BYTES + jailed_bytes(snapshot, slots)


def parked_bytes(snapshot: Snapshot) -> int:
    """Host memory of a replica of ``snapshot`` that waits without executors."""
    return ACTOR_BYTES + ZYGOTE_BYTES + weight_bytes(snapshot, snapshot.entry.dtype)


def beside_bytes(snapshot: Snapshot, slots: int) -> int:
    """Host memory of a replica whose model lies on devices; the weights are there too, to mend and to come back."""
    return parked_bytes(snapshot) + slots * EXECUTOR_BYTES


def layer_bytes(snapshot: Snapshot, slots: int) -> tuple[int, ...]:
    """What each piece of ``snapshot`` takes of a device, in the order of the forward pass.

    What ``slots`` ordinary jobs need beside the weights is shared out among the pieces by their size.
    """
    found = sorted(tensors_of(snapshot), key=lambda tensor: _place(tensor[0]))  # in a file they are in any order
    held = [layers.Tensor(tensor[0], int(_held_bytes(*tensor, snapshot.entry.dtype))) for tensor in found]
    sizes = [piece.size_bytes for piece in layers.cut(held)]
    profile = experience_with(snapshot.entry, snapshot.folder).profile
    jobs = slots * profile.peak_bytes(1, _ORDINARY_TOKENS) if profile else 0
    return tuple(size + math.ceil(jobs * size / sum(sizes)) for size in sizes)


def _place(name: str) -> int:
    """Before the layers, among them, or after them."""
    return 1 if layers.is_inside(name) else 0 if _EMBEDDING.search(name) else 2


def host_bytes() -> int:
    """Memory that loaded models may take here: a share of the machine's, or of what its control group allows."""
    return int(_machine_bytes() * _SHARE)


def warm_host_bytes() -> int:
    """Memory that models that wait to come back may take here."""
    return int(_machine_bytes() * _WARM_SHARE)


def _machine_bytes() -> int:
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total
