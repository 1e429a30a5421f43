"""The kept values of one user, in memory, for tests that run jobs on a pool without a jobs database."""

from __future__ import annotations

from collections.abc import AsyncIterator

from edif_protocol.shelf import ShelfRefused, unknown


class MemoryKeeper:
    """Keeps up to ``room_bytes``."""

    def __init__(self, room_bytes: int = 1 << 20) -> None:
        self.room_bytes = room_bytes
        self.values: dict[str, bytes] = {}
        self.abandoned = 0

    async def begin(self, name: str) -> Draft:
        return Draft(self, name)

    async def find(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        if name not in self.values:
            raise unknown(name, list(self.values))
        value = self.values[name]

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(value), 1000):
                yield value[start : start + 1000]

        return len(value), pieces()


class Draft:
    """A value on its way."""

    def __init__(self, keeper: MemoryKeeper, name: str) -> None:
        self.keeper = keeper
        self.name = name
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data
        if len(self.data) > self.keeper.room_bytes:
            raise ShelfRefused("There is no room for this value.")

    async def finish(self) -> None:
        self.keeper.values[self.name] = bytes(self.data)

    async def abandon(self) -> None:
        self.keeper.abandoned += 1
