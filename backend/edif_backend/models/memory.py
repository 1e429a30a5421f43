"""Memory of a model, counted before it is loaded.

Called by the dispatcher, which places models by it; imports no torch.  What is counted is memory that nobody else
shares: the weights as the zygote holds them, the processes, and the pages of executors' own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import psutil

from edif_backend.models.catalogue import Dtype
from edif_backend.models.snapshots import Snapshot

MIB = 1024 * 1024

_DTYPE_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}

#: Parameters that are no floating point numbers keep their size whatever the dtype.
_WHOLE_NUMBER_BYTES = {"I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1}

#: The replica's own process, a Ray actor.
ACTOR_BYTES = 230 * MIB

#: Python, torch and nnsight, loaded and rehearsed, without a model.
ZYGOTE_BYTES = 280 * MIB

#: An executor's own pages while it runs a short job.
EXECUTOR_BYTES = 30 * MIB

#: How much of the machine's memory models may take unless the operator says otherwise.
_SHARE = 0.7


def weight_bytes(parameters: Mapping[str, int], dtype: Dtype) -> int:
    """Bytes of ``parameters`` (counts by safetensors' names of dtypes) once they are loaded as ``dtype``."""
    return sum(count * _WHOLE_NUMBER_BYTES.get(stored, _DTYPE_BYTES[dtype]) for stored, count in parameters.items())


def jailed_bytes(snapshot: Snapshot, slots: int) -> int:
    """Memory of the zygote of ``snapshot`` and of ``slots`` executors."""
    return weight_bytes(snapshot.manifest.parameters, snapshot.entry.dtype) + ZYGOTE_BYTES + slots * EXECUTOR_BYTES


def replica_bytes(snapshot: Snapshot, slots: int) -> int:
    """Host memory of a replica of ``snapshot`` that runs ``slots`` jobs at once."""
    return ACTOR_BYTES + jailed_bytes(snapshot, slots)


def host_bytes() -> int:
    """Memory that models may take here: a share of the machine's, or of what its control group allows."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):  # no such group, or "max"
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return int(total * _SHARE)
