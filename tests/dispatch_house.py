"""Residents with all that they need, for tests: a fleet of names instead of processes, and a clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from edif_backend.dispatch.residents import Residents
from edif_backend.errors import ModelUnusable, ReplicaLost
from edif_backend.jobs import Jobs, open_jobs
from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.devices import Shares
from edif_backend.models.live import LiveCatalogue
from edif_backend.models.orders import Orders
from edif_backend.replicas.fleet import Survivor
from edif_backend.replicas.nodes import Node
from edif_backend.settings import BackendSettings

GB = 10**9


def table(id: str, *lines: str) -> str:
    return f'[models."x/{id}"]\ntitle = "t"\nsource = "hub"\n' + "".join(f"{line}\n" for line in lines)


class NamesOnly:
    """A fleet whose replicas are names; a model called ``broken`` cannot be loaded."""

    def __init__(self, capacity_bytes: int) -> None:
        self.copies: dict[str, str] = {}  #: and the nodes they are on
        self.waiting: dict[str, str] = {}  #: warm ones, and the nodes in whose memory they are
        self.shares: dict[str, Shares] = {}  #: what each was given of a node's devices
        self.starts: list[str] = []
        self.left_by_another: list[Survivor] = []
        self.deaths = 0  #: of the next processes that load something
        self.nodes = (Node("n1", "one", capacity_bytes),)
        self.free: int | None = None

    @property
    def there(self) -> set[str]:
        return {name.rpartition("#")[0] for name in self.copies}

    async def survivors(self, entries: tuple[ModelEntry, ...]) -> list[Survivor]:
        return self.left_by_another

    async def start(self, entry: ModelEntry, number: int, node: str, parts: Shares, *, alone: bool) -> None:
        name = f"{entry.id}#{number}"
        assert self.waiting.get(name, node) == node, "an actor's name is found on whichever node it is"
        if self.waiting.pop(name, None):
            self.copies[name] = node
            return
        self.starts.append(entry.id)
        self.shares[name] = parts
        if "broken" in entry.id:
            raise ModelUnusable("its weights are damaged.")
        if self.deaths:
            self.deaths -= 1
            raise ReplicaLost("The process that loads the model died; it is started again.")
        self.copies[f"{entry.id}#{number}"] = node

    async def stop(self, copy: str) -> None:
        self.copies.pop(copy, None)
        self.waiting.pop(copy, None)

    async def park(self, copy: str) -> bool:
        if copy not in self.copies:
            return False
        self.waiting[copy] = self.copies.pop(copy)
        return True

    def parked(self, copy: str) -> bool:
        return copy in self.waiting

    def loaded(self, copy: str) -> bool:
        return copy in self.copies

    def free_bytes(self, node: str) -> int | None:
        return self.free


class House:
    """Residents with all that they need, every model half a gigabyte large, and a clock."""

    def __init__(self, folder: Path, text: str, capacity_bytes: int = GB) -> None:
        self.path = folder / "models.toml"
        self.path.write_text(text)
        self.now = 1000.0
        self.jobs: Jobs = open_jobs(folder / "jobs.sqlite", clock=lambda: self.now)
        self.fleet = NamesOnly(capacity_bytes)
        self.orders = Orders(folder / "orders")
        self.waiting: dict[str, int] = {}
        self._work: list[Coroutine[Any, Any, None]] = []
        self.residents = Residents(
            self.jobs,
            LiveCatalogue(self.path),
            self.fleet,  # type: ignore[arg-type]
            BackendSettings(slots=2, model_turn_s=30, scale_up_s=5, scale_down_s=60),
            folder / "models",
            self.orders,
            spawn=self._work.append,
            turn=lambda: None,
        )
        asyncio.run(self.residents.start())

    def turn(self) -> None:
        """A turn, and all that it starts, twice: the second one finds the room that the first has made."""

        async def all_of_it() -> None:
            for _ in range(3):
                self.residents.tend(self.waiting)
                while self._work:
                    await self._work.pop(0)

        asyncio.run(all_of_it())

    def rewrite(self, text: str) -> None:
        before = self.path.stat().st_mtime_ns
        self.path.write_text(text)
        os.utime(self.path, ns=(before + 1_000_000,) * 2)

    def state(self, id: str) -> tuple[str, str]:
        found = self.jobs.deployments()[f"x/{id}"]
        return found.state, found.description


Build = Callable[..., House]
