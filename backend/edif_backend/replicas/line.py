"""A line between the dispatcher and a replica on the same machine: a Unix socket, jobs one way and outcomes the other.

A call through Ray was the larger part of what a small job costs dispatcher and replica.  Ray starts, finds and ends
replicas, and carries the jobs of those on other machines; who loses a line goes on through Ray
(:mod:`~edif_backend.replicas.fleet`).  Both ends are ours: the folder of the sockets belongs to this account alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from edif_backend.replicas.call import Call, Outcome

#: Of one job or outcome, which say little: values and results are objects in the store.
_MOST_BYTES = 16 << 20

_CALL = [field.name for field in dataclasses.fields(Call)]
_OUTCOME = [field.name for field in dataclasses.fields(Outcome)]


class LineEnd:
    """The replica's end; ``run`` is what it does with a job."""

    def __init__(self, run: Callable[[Call], Awaitable[Outcome]]) -> None:
        self._run = run
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self, folder: Path, replica: str) -> None:
        """Take jobs from now on; once is enough."""
        if self._server is not None:
            return
        self._server = await asyncio.start_unix_server(self._serve, sock=_bound(folder, replica), limit=_MOST_BYTES)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ValueError):  # ValueError: longer than any job can be
            while line := await reader.readline():
                number, *call = json.loads(line)
                task = asyncio.create_task(self._answer(number, Call(*call), writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        writer.close()

    async def _answer(self, number: int, call: Call, writer: asyncio.StreamWriter) -> None:
        try:
            outcome = await self._run(call)
        except Exception:  # a mistake of ours; whoever loses the line asks Ray, and hears it there
            writer.close()
            raise
        with contextlib.suppress(ConnectionError):  # the dispatcher has gone; the next one asks how the job ended
            writer.write(_line(number, outcome, _OUTCOME))
            await writer.drain()


class Line:
    """The dispatcher's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count()
        self._asked: dict[int, asyncio.Future[Outcome]] = {}
        self._hearing = asyncio.create_task(self._hear(reader))

    @classmethod
    async def to(cls, folder: Path, replica: str) -> Line | None:
        """A line to ``replica``; None where it has none here."""
        try:
            with _address(folder, replica) as address:
                return cls(*await asyncio.open_unix_connection(address, limit=_MOST_BYTES))
        except OSError:
            return None

    async def run(self, call: Call) -> Outcome:
        """How the job has ended.

        Raises:
            ConnectionError: the line was lost; the replica may go on with the job.
        """
        if self._hearing.done():
            raise ConnectionResetError
        number = next(self._numbers)
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            self._writer.write(_line(number, call, _CALL))
            return await answer
        finally:
            del self._asked[number]

    def close(self) -> None:
        """Send no more."""
        self._hearing.cancel()
        self._writer.close()

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        try:
            with contextlib.suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    number, *outcome = json.loads(line)
                    if (answer := self._asked.get(number)) and not answer.done():
                        answer.set_result(Outcome(*outcome))
        finally:
            self._writer.close()
            for answer in self._asked.values():
                if not answer.done():
                    answer.set_exception(ConnectionResetError())


def forget(folder: Path, replica: str) -> None:
    """Remove the socket of a replica that has ended."""
    with contextlib.suppress(FileNotFoundError), _address(folder, replica) as address:
        Path(address).unlink()


def _bound(folder: Path, replica: str) -> socket.socket:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    listening = socket.socket(socket.AF_UNIX)
    try:
        with _address(folder, replica) as address:
            Path(address).unlink(missing_ok=True)
            listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening


@contextlib.contextmanager
def _address(folder: Path, replica: str) -> Iterator[str]:
    """The replica's socket in ``folder``, whose own path may be longer than an address can be."""
    opened = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{hashlib.sha256(replica.encode()).hexdigest()[:32]}"
    finally:
        os.close(opened)


def _line(number: int, said: Call | Outcome, names: list[str]) -> bytes:
    values: list[Any] = [getattr(said, name) for name in names]
    return json.dumps([number, *values]).encode() + b"\n"
