"""Bells: "look at the table", said from one process to another at once.

A bell is a hint and never carries news: whoever hears it reads the table, and whoever misses it reads the table a
moment later anyway.  What need not be read at once rings softly: soft rings are heard together, a moment later, or with
the next that is not soft.  On one machine each listener binds a Unix datagram socket named by its role, and ringing
sends one byte to it; with PostgreSQL a bell is a channel (:mod:`~edif_backend.jobs.channel`).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

#: How long a soft ring waits for others: nobody sees it, and a short job's states are read and told in one go.
LULL_S = 0.01

_NOW, _SOON = b"!", b"."


class Bell(ABC):
    """One listener; use as a context manager in the process of that role."""

    @abstractmethod
    async def wait(self, timeout_s: float) -> None:
        """Return when the bell rings, or after ``timeout_s`` seconds; several rings count as one."""

    @abstractmethod
    def close(self) -> None:
        """Stop listening."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SocketBell(Bell):
    """One listener's socket."""

    def __init__(self, folder: Path, role: str) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        # Reached through a descriptor: the folder's own path may be longer than the 107 bytes of a socket address.
        address = f"/proc/self/fd/{self._folder}/{role}"
        Path(address).unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    async def wait(self, timeout_s: float) -> None:
        """See :meth:`Bell.wait`."""
        loop = asyncio.get_running_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s) as patience:
                while await loop.sock_recv(self._socket, 1) != _NOW and not self._heard():
                    patience.reschedule(min(patience.when() or math.inf, loop.time() + LULL_S))
        self._heard()

    def _heard(self) -> bool:
        """Whether any of the rings that wait is not soft; none waits after that."""
        now = False
        with contextlib.suppress(BlockingIOError):
            while True:
                now = self._socket.recv(1) == _NOW or now
        return now

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
        os.close(self._folder)


class Bells:
    """The bells of one installation, to be rung from any of its processes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def ring(self, role: str, *, soft: bool = False) -> None:
        """Wake the listener of that role; nobody listening, or one that is awake already, is fine."""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            self._socket.sendto(_SOON if soft else _NOW, f"/proc/self/fd/{self._folder}/{role}")

    def close(self) -> None:
        """Ring no more."""
        self._socket.close()
        os.close(self._folder)
