"""The machines of the Ray cluster, looked at every second; and the memory that is really free on this one.

Used by :class:`~edif_backend.replicas.fleet.Fleet`, in the dispatcher's process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil
import ray

from edif_backend.models import devices

_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster, or what simulates one."""

    id: str
    name: str  #: its address
    memory_bytes: int  #: what models may take there: the resource ``memory`` that its Ray node was started with
    warm_bytes: int = 0  #: what models that wait may take there besides
    devices: tuple[tuple[str, int], ...] = ()  #: its own devices and their bytes


def nodes() -> tuple[Node, ...]:
    """The nodes that are alive."""
    found = [
        Node(
            node["NodeID"],
            node["NodeManagerAddress"],
            int(node["Resources"].get("memory", 0)),
            devices.warm_bytes(node["Resources"]),
            devices.devices(node["Resources"]),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return tuple(sorted(found, key=lambda node: node.id))


def free_here_bytes() -> int:
    """Memory of this machine that processes could have now, caches of files included."""
    return int(psutil.virtual_memory().available)


class NodeWatch(threading.Thread):
    """Tells of every change of the nodes.

    A thread that nobody waits for at the end: the question hangs for a minute when the cluster is gone.
    """

    def __init__(self, changed: Callable[[tuple[Node, ...]], None]) -> None:
        super().__init__(name="nodes", daemon=True)
        self._changed = changed

    def run(self) -> None:
        """Look until this process ends."""
        known: tuple[Node, ...] = ()
        while True:
            time.sleep(_LOOK_S)
            with contextlib.suppress(Exception):  # Ray is gone or going, which the dispatcher notices itself
                if (found := nodes()) != known:
                    known = found
                    self._changed(found)
