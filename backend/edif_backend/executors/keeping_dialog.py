"""The replica's side of ``edif.keep`` and ``edif.kept`` while a job runs: frames in, frames out, opaque bytes between.

Called by the pool for each such frame of one executor.  Nothing of it is believed: names are checked, sizes counted as
they come, and frames out of turn end the executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol

from edif_backend.executors import frames
from edif_backend.executors.frames import FrameError, Kind
from edif_protocol.shelf import ShelfRefused, checked

KINDS = frozenset({Kind.KEEP, Kind.PIECE, Kind.WHOLE, Kind.WANT})


class Draft(Protocol):
    """A value that is being kept."""

    async def write(self, data: frames.Body) -> None:
        """Take the next piece.

        Raises:
            ShelfRefused: there is no room for it.
        """

    async def finish(self) -> None:
        """All of it has come: keep it, or raise :class:`ShelfRefused`."""

    async def abandon(self) -> None:
        """It will not be finished; nothing of it stays."""


class Keeper(Protocol):
    """The kept values of the user whose job runs."""

    async def begin(self, name: str) -> Draft:
        """A value is going to be kept as ``name``."""

    async def find(self, name: str) -> tuple[int, AsyncIterator[bytes]]:
        """Size and pieces of what is kept as ``name``; raises :class:`ShelfRefused` where there is nothing."""


class KeepingDialog:
    """What one executor keeps and asks for."""

    def __init__(self, keeper: Keeper, writer: asyncio.StreamWriter) -> None:
        self._keeper = keeper
        self._writer = writer
        self._open = False  #: between KEEP and WHOLE
        self._draft: Draft | None = None  #: None while open: it was refused, the rest passes by
        self._refusal = ""

    async def hear(self, kind: Kind, body: frames.Body) -> None:
        """Take one frame of :data:`KINDS`.

        Raises:
            FrameError: it is out of turn.
            OSError: the store fails.
        """
        if self._open is not (kind in (Kind.PIECE, Kind.WHOLE)):
            raise FrameError(f"{kind.name} out of turn")
        if kind is Kind.PIECE:
            await self._take(body)
            return
        words = frames.read_words(body)
        try:
            if kind is Kind.KEEP:
                self._open, self._refusal = True, ""
                self._draft = await self._keeper.begin(checked(words.get("name")))
            elif kind is Kind.WHOLE:
                await self._finish(words.get("whole") is True)
                self._answer(bytes=0)
            else:
                await self._give(checked(words.get("name")))
        except ShelfRefused as refusal:
            if kind is Kind.KEEP:
                self._refusal = str(refusal)  # said when the pieces have passed
            else:
                self._answer(refused=str(refusal))

    async def close(self) -> None:
        """The job has ended; what was not finished is not kept."""
        draft, self._draft = self._draft, None
        if draft is not None:
            await draft.abandon()

    async def _take(self, piece: frames.Body) -> None:
        if self._draft is None:
            return
        try:
            await self._draft.write(piece)
        except ShelfRefused as refusal:
            self._refusal = str(refusal)
            await self.close()

    async def _finish(self, whole: bool) -> None:
        self._open = False
        if self._draft is None:
            raise ShelfRefused(self._refusal)
        if not whole:
            await self.close()
            raise ShelfRefused("The value could not be packed, so it is not kept.")
        draft, self._draft = self._draft, None
        await draft.finish()

    async def _give(self, name: str) -> None:
        count, pieces = await self._keeper.find(name)
        self._answer(bytes=count)
        async for piece in pieces:
            self._writer.write(frames.pack(Kind.PIECE, piece))
            await self._writer.drain()

    def _answer(self, **fields: Any) -> None:
        self._writer.write(frames.words(Kind.ANSWER, **fields))
