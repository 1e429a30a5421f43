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

#: How much of the machine's memory models may take unless the operator says otherwise.
_SHARE = 0.7


def weight_bytes(snapshot: Snapshot, dtype: Dtype) -> int:
    """Bytes of the weights of ``snapshot`` once they are loaded as ``dtype``, from the headers of its files."""
    if dtype not in _UNQUANTIZED_BYTES:
        counted = snapshot.manifest.parameters.items()
        return int(sum(count * _WHOLE_NUMBER_BYTES.get(stored, _DTYPE_BYTES[dtype]) for stored, count in counted))
    total = 0.0
    for name, stored, shape in tensors_of(snapshot):
        if len(shape) == 2 and stored not in _WHOLE_NUMBER_BYTES and not _NOT_QUANTIZED.search(name):
            total += math.prod(shape) * _DTYPE_BYTES[dtype] + 4 * shape[0]  # and a scale a row
        else:
            total += math.prod(shape) * _WHOLE_NUMBER_BYTES.get(stored, _UNQUANTIZED_BYTES[dtype])
    return int(total)


def jailed_bytes(snapshot: Snapshot, slots: int) -> int:
    """Memory of the zygote of ``snapshot`` and of ``slots`` executors, each with a job of ordinary size."""
    profile = experience_with(snapshot.entry, snapshot.folder).profile
    job_bytes = profile.peak_bytes(1, _ORDINARY_TOKENS) if profile else 0
    return weight_bytes(snapshot, snapshot.entry.dtype) + ZYGOTE_BYTES + slots * (EXECUTOR_BYTES + job_bytes)


def replica_bytes(snapshot: Snapshot, slots: int) -> int:
    """Host memory of a replica of ``snapshot`` that runs ``slots`` jobs at once."""
    return ACTOR_BYTES + jailed_bytes(snapshot, slots)


def host_bytes() -> int:
    """Memory that models may take here: a share of the machine's, or of what its control group allows."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return int(total * _SHARE)
