"""The warm tier: copies that gave their devices to another model and wait in the memory of their node to come back.

Kept by :class:`~edif_backend.dispatch.residents.Residents`, in the dispatcher's process.  What waits there is a whole
replica without executors (:meth:`~edif_backend.replicas.replica.Replica.park`): weights in the host's memory, Python,
torch and a rehearsed job beside them, so that coming back is at most a copy of memory.  The tier is bounded on each
node, the copy that has waited longest goes for a newer one, and all of it is given back when memory is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from edif_backend.dispatch.loaded import loads_alike
from edif_backend.models.catalogue import ModelEntry
from edif_backend.replicas.fleet import Fleet, copy_name

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class WarmCopy:
    """A copy that waits."""

    entry: ModelEntry
    number: int
    node: str
    size_bytes: int
    there: bool = True  #: not on its way in any more, and not on its way out

    @property
    def name(self) -> str:
        return copy_name(self.entry.id, self.number)


class WarmTier:
    """Every copy that waits, by its name, in the order in which they came.

    Args:
        spawn: starts work beside the dispatcher's loop.
    """

    def __init__(self, fleet: Fleet, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._fleet = fleet
        self._spawn = spawn
        self._copies: dict[str, WarmCopy] = {}
        self.wanted: frozenset[str] = frozenset()  #: names of those that jobs wait for: they stay

    def of(self, model: str) -> list[WarmCopy]:
        """The copies of ``model`` that can come back, the latest first."""
        return [found for found in reversed(self._copies.values()) if found.there and found.entry.id == model]

    def numbers(self, model: str) -> set[int]:
        """Numbers of copies of ``model`` that are here, coming or going: nobody else can have them."""
        return {found.number for found in self._copies.values() if found.entry.id == model}

    def free_numbers(self, model: str, taken: set[int], count: int, *, fresh: bool) -> list[int]:
        """Numbers for ``count`` copies of ``model`` to come: unless they are to be ``fresh``, first those that wait."""
        warm = [] if fresh else [found.number for found in self.of(model)]
        taken = taken | self.numbers(model)
        return [*warm, *(number for number in range(len(taken) + count) if number not in taken)][:count]

    def size_bytes(self, copy: str, node: str) -> int:
        """What a copy has of the memory of ``node`` already."""
        found = self._copies.get(copy)
        return found.size_bytes if found and found.there and found.node == node else 0

    async def keep(self, came: WarmCopy, leaves_bytes: int) -> bool:
        """Let a loaded copy that runs nothing wait here; False where it cannot, and then it is as it was.

        Args:
            leaves_bytes: what it has had of its node's memory; a wanted copy that waits here is about to take that.
        """
        room = next((node.warm_bytes for node in self._fleet.nodes if node.id == came.node), 0)
        if came.size_bytes > room:
            return False
        came.there = False
        self._copies[came.name] = came
        while self._stay_bytes(came.node, leaves_bytes) > room:
            others = (found for found in self._on(came.node) if found.there and found.name not in self.wanted)
            oldest = next(others, None)
            if oldest is None:  # the others are still coming, or wanted
                del self._copies[came.name]
                return False
            await self._end(oldest)
        came.there = await self._fleet.park(came.name)
        if not came.there:
            del self._copies[came.name]
        return came.there

    def take_over(self, found: WarmCopy) -> None:
        """One that an earlier dispatcher has left here."""
        self._copies[found.name] = found

    def take(self, copy: str, node: str) -> bool:
        """A copy comes back on ``node``; False where it does not wait there."""
        if self.size_bytes(copy, node) == 0:
            return False
        del self._copies[copy]
        return True

    def follow(self, entries: Mapping[str, ModelEntry]) -> None:
        """Let go what was lost, and what the catalogue has no more or otherwise."""
        for found in list(self._copies.values()):
            if found.there and not self._fleet.parked(found.name):
                del self._copies[found.name]
            elif found.there and not ((entry := entries.get(found.entry.id)) and loads_alike(entry, found.entry)):
                self.let_go(found)

    def give_back(self, node: str) -> bool:
        """Let go what has waited longest on ``node``, for somebody needs its memory; False when there is nothing."""
        oldest = next((found for found in self._on(node) if found.there), None)
        if oldest is not None:
            log.info("warm copy goes", copy=oldest.name, reason="its memory is needed")
            self.let_go(oldest)
        return oldest is not None

    def let_go(self, *copies: WarmCopy) -> None:
        """End copies; what they hold is free when their processes are gone."""
        for found in copies:
            found.there = False
            self._spawn(self._end(found))

    def _stay_bytes(self, node: str, leaves_bytes: int) -> int:
        """What will be taken on ``node`` when wanted copies have come back into the place that is left to them."""
        stay_bytes = 0
        for found in self._on(node):
            if found.name in self.wanted and found.size_bytes <= leaves_bytes:
                leaves_bytes -= found.size_bytes
            else:
                stay_bytes += found.size_bytes
        return stay_bytes

    def _on(self, node: str) -> Iterable[WarmCopy]:
        return [found for found in self._copies.values() if found.node == node]

    async def _end(self, found: WarmCopy) -> None:
        found.there = False
        await self._fleet.stop(found.name)
        self._copies.pop(found.name, None)
