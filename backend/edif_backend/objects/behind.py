"""Writing an object from an event loop: each piece is stored in a thread while the next is still being received.

Used by replicas; at most two pieces are in memory, and an object of one piece is stored in one step.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from edif_backend.objects.store import SMALL_BYTES, ObjectWriter


class WriteBehind:
    """An :class:`~edif_backend.objects.store.ObjectWriter` for ``async with``; ``open_writer`` makes it.

    Args:
        near: whether a small object may be stored by the event loop itself.
    """

    def __init__(self, open_writer: Callable[[], ObjectWriter], *, near: bool = False) -> None:
        self._open = open_writer
        self._near = near
        self._writer: ObjectWriter | None = None
        self._held: bytes | bytearray | None = None  # the last piece that came
        self._storing: asyncio.Task[None] | None = None

    async def write(self, data: bytes | bytearray) -> None:
        """Begin to store the piece before ``data``, once those before it are stored."""
        await self._stored()
        if self._held is not None:
            self._storing = asyncio.create_task(asyncio.to_thread(self._store, self._held))
        self._held = data

    def _store(self, data: bytes | bytearray | None) -> None:
        if self._writer is None:
            self._writer = self._open()
        if data is not None:
            self._writer.write(data)

    async def _stored(self) -> None:
        if self._storing:
            # A thread cannot be stopped: who is cancelled here leaves it to __aexit__ to wait for it.
            await asyncio.shield(self._storing)
            self._storing = None

    @property
    def sha256(self) -> str:
        """Of the whole object, in hex; after the ``async with`` block."""
        assert self._writer
        return self._writer.sha256

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._stored()
        except Exception as failure:
            self._storing = None
            await asyncio.to_thread(self._end, failure)
            if error is None:
                raise
        else:
            # What is small is stored here in one go: each change of threads costs as much as a small file.
            if self._near and self._writer is None and len(self._held or b"") <= SMALL_BYTES:
                self._end(error)
            else:
                await asyncio.to_thread(self._end, error)

    def _end(self, error: BaseException | None) -> None:
        """Store the last piece and close, or, after an error, leave nothing."""
        try:
            if error is None:
                self._store(self._held)
        except BaseException as failure:
            self._close(failure)
            raise
        self._close(error)

    def _close(self, error: BaseException | None) -> None:
        if self._writer is not None:
            self._writer.__exit__(type(error) if error else None, error, None)
