"""Sentences for those who wait for a model, and for the operator: why there is no room for it.

Called by :mod:`~edif_backend.dispatch.residents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edif_backend.dispatch.placement import Copy
from edif_backend.dispatch.sites import Device, Need


def who_holds(copies: Sequence[Copy]) -> str:
    """Why there is no room yet, for those who wait."""
    pinned = _models(copy for copy in copies if copy.pinned)
    leaving = _models(copy for copy in copies if copy.leaving)
    busy = [model for model in _models(copy for copy in copies if copy.busy) if model not in (*pinned, *leaving)]
    parts = [
        f"{' and '.join(models)} {'is' if len(models) == 1 else 'are'} {what}"
        for models, what in ((busy, "busy"), (leaving, "ending its jobs"), (pinned, "pinned"))
        if models
    ]
    return f"Waiting for memory that other models hold: {'; '.join(parts)}." if parts else "Waiting for memory."


def too_large(need: Need, most: int, devices: Sequence[Device]) -> str:
    """Why a model can never be loaded where there are at most ``most`` bytes for it, and what to do."""
    nodes: dict[str, int] = {}
    for device in devices:
        nodes[device.node] = nodes.get(device.node, 0) + (0 if device.beside else device.capacity_bytes)
    capacity, own = max(nodes.values(), default=0), any(device.beside for device in devices)
    size = sum(need.spread.layers) if own and need.spread else need.size_bytes
    here = "here" if len(nodes) == 1 else f"on the largest of {len(nodes)} machines"
    taken = f", {(capacity - most) / 1e9:.2f} GB of it taken by pinned models" if most < capacity else ""
    mend = "" if own else "; the operator can raise `model_memory_bytes`"
    return (
        f"It needs {size / 1e9:.2f} GB of memory, and models may take {capacity / 1e9:.2f} GB {here}{taken}. "
        f"A smaller dtype halves it{mend}."
    )


def too_little_free(name: str, size: int, free: int) -> str:
    """Why a model waits though by the ledger there is room."""
    return (
        f"Waiting for memory: {name} needs {size / 1e9:.2f} GB, and {max(free, 0) / 1e9:.1f} GB are free on the "
        "machine; something else than models has taken the rest."
    )


def _models(copies: Iterable[Copy]) -> list[str]:
    return list(dict.fromkeys(copy.model or copy.name for copy in copies))
