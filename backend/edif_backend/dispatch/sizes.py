"""How large a copy of a model is: loaded into a node's memory, spread over devices, or waiting warm.

Called by :mod:`~edif_backend.dispatch.residents`.
"""

from __future__ import annotations

from dataclasses import dataclass

from edif_backend.dispatch.rooms import parts_on
from edif_backend.dispatch.sites import Part, Spread
from edif_backend.models.devices import Shares
from edif_backend.models.memory import beside_bytes, layer_bytes, parked_bytes, replica_bytes
from edif_backend.models.snapshots import Snapshot


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of one copy."""

    memory_bytes: int  #: of a node's memory, where it lies there
    parked_bytes: int  #: of a node's memory, while it waits
    spread: Spread | None = None  #: what it takes where models lie on devices, if that was asked for

    @classmethod
    def of(cls, snapshot: Snapshot, slots: int, *, spread: bool) -> Size:
        """The size of a copy that runs ``slots`` jobs at once.

        Raises:
            ModelUnusable: a file is damaged.
        """
        on_devices = Spread(layer_bytes(snapshot, slots), beside_bytes(snapshot, slots)) if spread else None
        return cls(replica_bytes(snapshot, slots), parked_bytes(snapshot), on_devices)

    def parts(self, node: str, shares: Shares) -> tuple[Part, ...]:
        """What a copy has that is on ``node`` already, with ``shares`` of its devices."""
        return parts_on(node, shares, self.spread.beside_bytes if self.spread and shares else self.memory_bytes)
