"""What the nodes have for models: by what they report, and by what is really free there.

Used by :mod:`~edif_backend.dispatch.residents`, in the dispatcher's process.  Something else than models may have taken
memory that should be free: then a load waits, copies that wait warm go for it at once, and idle models after a while.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import structlog

from edif_backend.clock import Clock
from edif_backend.dispatch.loaded import Copies
from edif_backend.dispatch.sites import Device, Need, Part
from edif_backend.dispatch.warm import WarmTier
from edif_backend.models.devices import Shares
from edif_backend.replicas.fleet import Fleet

log = structlog.get_logger(__name__)

#: How long a load is put off for want of free memory before idle models go for it.
_SHORT_S = 10.0

#: A node with less than this share of its models' memory free keeps nothing warm.
_LOW = 1 / 20


def on_node(parts: Iterable[Part]) -> tuple[str, Shares]:
    """The node that all ``parts`` are on, and what they have of its own devices."""
    split = [(*part.device.partition("/"), part.size_bytes) for part in parts]
    return split[0][0], tuple((device, size) for _, slash, device, size in split if slash)


def parts_on(node: str, shares: Shares, memory_bytes: int) -> tuple[Part, ...]:
    """Parts of the devices of a node, and of its memory."""
    return (*(Part(f"{node}/{device}", size) for device, size in shares), Part(node, memory_bytes))


class Rooms:
    """Devices, and whether what the ledger says to be free is free."""

    def __init__(self, fleet: Fleet, copies: Copies, warm: WarmTier, clock: Clock) -> None:
        self._fleet = fleet
        self._copies = copies
        self._warm = warm
        self._clock = clock
        self._short_since: dict[str, float] = {}

    def devices(self) -> list[Device]:
        """All devices; with what is really free there where a load has waited for that long enough."""
        found = []
        for node in self._fleet.nodes:
            memory = Device(node.id, node.memory_bytes, node=node.id, beside=bool(node.devices))
            if self._clock() - self._short_since.get(node.id, float("inf")) >= _SHORT_S:
                memory = replace(memory, lost_bytes=self._lost_bytes(memory))
            found.append(memory)
            found += [Device(f"{node.id}/{name}", size, node=node.id) for name, size in node.devices]
        return found

    def keep_free(self) -> None:
        """Let warm copies go where memory runs low, whoever takes it."""
        for node in self._fleet.nodes:
            free = self._fleet.free_bytes(node.id)
            if free is not None and free < node.memory_bytes * _LOW:
                self._warm.give_back(node.id)

    def short_of(self, need: Need, parts: Iterable[Part]) -> tuple[int, int] | None:
        """Bytes that a load needs and bytes that are free, where it has to wait because memory is not there."""
        for part in parts:
            free = self._fleet.free_bytes(part.device)
            needed = part.size_bytes - self._warm.size_bytes(need.name, part.device)
            if free is None or free - self._copies.held_bytes(part.device, loading=True) >= needed:
                self._short_since.pop(part.device, None)
                continue
            if not self._warm.give_back(part.device):
                if part.device not in self._short_since:
                    log.warning("too little memory is free", copy=need.name, needed=needed, free=free)
                self._short_since.setdefault(part.device, self._clock())
            return needed, free
        return None

    def _lost_bytes(self, memory: Device) -> int:
        free = self._fleet.free_bytes(memory.name)
        settled = self._copies.held_bytes(memory.name, loading=False)
        return 0 if free is None else max(memory.capacity_bytes - settled - free, 0)
