"""Devices by the node that has them, and where on one of these nodes a copy of a model can be.

Pure; the part of :mod:`~edif_backend.dispatch.placement` that knows what a node is.  A node without devices of its own
is one device, its memory.  A node with some holds models on these alone, and in its memory what goes beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """Somewhere models can be: the memory of a machine, or a GPU."""

    name: str
    capacity_bytes: int
    lost_bytes: int = 0  #: of that, what something else than models has taken for now
    node: str = ""  #: whose it is; a copy is on devices of one node
    beside: bool = False  #: it is the memory of a node with devices of its own


@dataclass(frozen=True, slots=True)
class Part:
    """What one copy of a model holds of one device."""

    device: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Spread:
    """What a copy takes of a node whose models lie on devices of their own."""

    layers: tuple[int, ...]  #: bytes on devices, by the pieces it can be cut into, in the order of the forward pass
    beside_bytes: int  #: of the node's memory


@dataclass(frozen=True, slots=True)
class Need:
    """A copy of a model that should be loaded and is not.

    ``layers`` are the sizes of the pieces it can be cut into, in the order of the forward pass, ``size_bytes`` in all;
    without them it goes onto one device or none.
    """

    name: str
    size_bytes: int
    since: float  #: since when it is wanted; who waits longest is served first
    pinned: bool = False
    layers: tuple[int, ...] = ()
    model: str = ""  #: whose copy it is; empty: it is the only one
    spare: bool = False  #: more than the model must have
    spread: Spread | None = None  #: what it takes where models lie on devices of their own; None: it cannot be there
    warm_on: str | None = None  #: the node in whose memory this copy waits


@dataclass(frozen=True, slots=True)
class _Site:
    node: str
    devices: tuple[str, ...]
    beside: str | None  #: the node's memory, where it is no device itself

    def bytes_of(self, need: Need) -> tuple[int, tuple[int, ...]] | None:
        """What ``need`` takes of the devices here, and its pieces."""
        if self.beside is None:
            return need.size_bytes, need.layers
        return (sum(need.spread.layers), need.spread.layers) if need.spread else None

    def fit(self, need: Need, room: Mapping[str, int], others: AbstractSet[str]) -> tuple[Part, ...] | None:
        """Where ``need`` goes here: the fullest device that can hold it, else layer by layer over the emptiest ones."""
        taken = self.bytes_of(need)
        if taken is None or (self.beside and need.spread and room[self.beside] < need.spread.beside_bytes):
            return None
        size_bytes, layers = taken
        parts = _whole(self.devices, size_bytes, room, others) or _cut(self.devices, layers, room)
        if parts and self.beside and need.spread:
            parts = (*parts, Part(self.beside, need.spread.beside_bytes))
        return parts


class Sites:
    """The nodes that ``devices`` belong to."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._sites = []
        for node in dict.fromkeys(device.node for device in devices):
            mine = [device for device in devices if device.node == node]
            beside = next((device.name for device in mine if device.beside), None)
            self._sites.append(_Site(node, tuple(device.name for device in mine if not device.beside), beside))

    def fit(
        self, need: Need, room: Mapping[str, int], others: AbstractSet[str] = frozenset()
    ) -> tuple[Part, ...] | None:
        """Where ``need`` goes, its part of a node's memory last.

        The node in whose memory it waits comes first; then one where it is whole; then a device that is not among
        ``others``, where copies of its model are; then the fullest.
        """
        found = []
        for site in self._sites:
            if parts := site.fit(need, room, others):
                on = [part.device for part in parts if part.device != site.beside]
                taken = any(device in others for device in on)
                found.append((site.node != need.warm_on, len(on) > 1, taken, room[on[0]], on[0], parts))
        return min(found)[-1] if found else None

    def most_bytes(self, need: Need, room: Mapping[str, int]) -> int:
        """How much of one node ``need`` could have at most, on the devices that it would go onto."""
        most = 0
        for site in self._sites:
            taken = site.bytes_of(need)
            if taken is not None:
                left = [room[device] for device in site.devices]
                most = max(most, sum(left) if taken[1] else max(left, default=0))
        return most


def _whole(
    devices: Sequence[str], size_bytes: int, room: Mapping[str, int], others: AbstractSet[str]
) -> tuple[Part, ...] | None:
    fitting = [(device in others, room[device], device) for device in devices if room[device] >= size_bytes]
    return (Part(min(fitting)[2], size_bytes),) if fitting else None


def _cut(devices: Sequence[str], layers: Sequence[int], room: Mapping[str, int]) -> tuple[Part, ...] | None:
    left, parts = list(layers), []
    for device in sorted(devices, key=lambda device: (-room[device], device)):
        size = 0
        while left and size + left[0] <= room[device]:
            size += left.pop(0)
        if size:
            parts.append(Part(device, size))
    return tuple(parts) if layers and not left else None
