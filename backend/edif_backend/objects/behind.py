"""Writing an object from an event loop: each piece is stored in a thread while the next is still being received.

Used by replicas; at most two pieces are in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from edif_backend.objects.store import ObjectWriter


class WriteBehind:
    """An :class:`~edif_backend.objects.store.ObjectWriter` for ``async with``; ``open_writer`` makes it."""

    def __init__(self, open_writer: Callable[[], ObjectWriter]) -> None:
        self._open = open_writer
        self._storing: asyncio.Task[None] | None = None

    async def write(self, data: bytes) -> None:
        """Begin to store ``data`` once the piece before it is stored."""
        await self._stored()
        self._storing = asyncio.create_task(asyncio.to_thread(self._writer.write, data))

    async def _stored(self) -> None:
        if self._storing:
            # A thread cannot be stopped: who is cancelled here leaves it to __aexit__ to wait for it.
            await asyncio.shield(self._storing)
            self._storing = None

    @property
    def sha256(self) -> str:
        """Of the whole object, in hex; after the ``async with`` block."""
        return self._writer.sha256

    async def __aenter__(self) -> Self:
        self._writer = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._stored()
        except Exception as failure:
            self._storing = None
            await asyncio.to_thread(self._writer.__exit__, type(failure), failure, None)
            if error is None:
                raise
        else:
            await asyncio.to_thread(self._writer.__exit__, kind, error, trace)
