"""The shelf inside the jail: what a block keeps leaves as frames, what it asks for comes as frames.

Installed by the executor before it runs a job.  The replica's side is :mod:`~edif_backend.executors.keeping_dialog`.
"""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from typing import IO, Any, cast

from edif_backend.executors import frames
from edif_backend.executors.frames import Kind
from edif_backend.executors.packing import Pieces
from edif_protocol.shelf import ShelfRefused


class JailShelf:
    """The replica, asked over the executor's socket; one question at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()

    def put(self, name: str, write: Callable[[IO[bytes]], None]) -> None:
        """See :meth:`edif_protocol.shelf.Shelf.put`."""
        with self._lock:
            self._sock.sendall(frames.words(Kind.KEEP, name=name))
            pieces = Pieces(lambda piece: self._sock.sendall(frames.pack(Kind.PIECE, piece)))
            whole = False
            try:
                write(cast(IO[bytes], pieces))
                pieces.end()
                whole = True
            finally:
                self._sock.sendall(frames.words(Kind.WHOLE, whole=whole))
                answer = self._answer()
        _insist(answer)

    def get(self, name: str) -> IO[bytes]:
        """See :meth:`edif_protocol.shelf.Shelf.get`."""
        with self._lock:
            self._sock.sendall(frames.words(Kind.WANT, name=name))
            answer = self._answer()
            _insist(answer)
            found = io.BytesIO()
            while found.tell() < answer["bytes"]:
                kind, piece = frames.receive(self._sock, frames.PIECE_BYTES)
                if kind is not Kind.PIECE or not piece:
                    raise ShelfRefused("The kept value could not be read to its end; run the block again.")
                found.write(piece)
        found.seek(0)
        return found

    def _answer(self) -> dict[str, Any]:
        _, body = frames.receive(self._sock, frames.WORDS_BYTES)
        return frames.read_words(body)


def _insist(answer: dict[str, Any]) -> None:
    if "refused" in answer:
        raise ShelfRefused(answer["refused"])
