"""The kept values of one job's user: rows of the jobs database and objects of the store, as opaque bytes.

Made by the replica for each job; called from the pool's dialogue with the executor.  A value appears under its name,
whole, when it is finished, and only while the job's claim is valid.
"""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from edif_backend.jobs import Jobs, KeptValue
from edif_backend.objects import Objects
from edif_backend.objects.behind import WriteBehind
from edif_backend.replicas.call import Call
from edif_protocol.shelf import ShelfRefused, unknown


class UsersShelf:
    """What the user of ``call`` keeps."""

    def __init__(self, call: Call, model: str, jobs: Jobs, objects: Objects) -> None:
        self._call = call
        self._model = model
        self._jobs = jobs
        self._objects = objects

    async def begin(self, name: str) -> _Draft:
        """A value is going to be kept as ``name``."""
        others = sum(kept.bytes for kept in self._jobs.kept.of(self._call.user) if kept.name != name)
        room_bytes = max(self._call.keep_bytes - others, 0) if self._call.keep_bytes else sys.maxsize
        return await _Draft(self, name, room_bytes).opened()

    async def find(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """Size and pieces of what is kept as ``name``.

        Raises:
            ShelfRefused: there is nothing; the sentence lists what there is.
        """
        found = self._jobs.kept.use(self._call.user, name)
        if found is None:
            raise unknown(name, [kept.name for kept in self._jobs.kept.of(self._call.user)])
        try:
            pieces = await asyncio.to_thread(self._objects.read_range, found.object, 0, found.bytes)
        except FileNotFoundError:
            raise ShelfRefused(f"What was kept as {name!r} is lost; keep it again.") from None

        async def each() -> AsyncIterator[bytes]:
            while piece := await asyncio.to_thread(next, pieces, b""):
                yield piece

        return found.bytes, each()

    def keep(self, name: str, id: str, count: int, sha256: str) -> None:
        """Enter a finished value under its name.

        Raises:
            ShelfRefused: the job has ended meanwhile.
        """
        call, now = self._call, self._jobs.now()
        value = KeptValue(id, call.user, name, count, sha256, call.job, self._model, now, now)
        if not self._jobs.keep(value, call.worker, call.attempt):
            raise ShelfRefused("The job has ended meanwhile; nothing was kept.")

    def writer(self, id: str) -> WriteBehind:
        """Where a value's bytes go."""
        return WriteBehind(lambda: self._objects.writer(f"kept/{id}"))


class _Draft:
    """One value on its way."""

    def __init__(self, shelf: UsersShelf, name: str, room_bytes: int) -> None:
        self._shelf = shelf
        self._name = name
        self._room_bytes = room_bytes
        self._id = uuid.uuid4().hex
        self._taken = 0
        self._stack = AsyncExitStack()

    async def opened(self) -> _Draft:
        self._sink = await self._stack.enter_async_context(self._shelf.writer(self._id))
        return self

    async def write(self, data: bytes | bytearray) -> None:
        """Take the next piece."""
        self._taken += len(data)
        if self._taken > self._room_bytes:
            raise ShelfRefused(
                f"There is no room for this value: {self._room_bytes} bytes are left of what you may keep. Keep less"
                " (slice, .clone(), half precision), or make room: edif.kept() lists, edif.forget(name) removes."
            )
        await self._sink.write(data)

    async def finish(self) -> None:
        """Keep it."""
        await self._stack.aclose()
        self._shelf.keep(self._name, self._id, self._taken, self._sink.sha256)

    async def abandon(self) -> None:
        """Nothing of it stays."""
        stop = ShelfRefused("abandoned")
        await self._stack.__aexit__(type(stop), stop, None)
