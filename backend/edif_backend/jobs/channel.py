"""A bell on PostgreSQL: NOTIFY rings it when the transaction that rings commits, on whichever machine it listens."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psycopg
import psycopg.sql

from edif_backend.jobs.bell import LULL_S, Bell

#: How soon a server that is gone without a word is noticed.
SIGNS_OF_LIFE: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}

#: What is said with a ring that is soft.
SOFT = "soon"
_NOW = "now"

#: Between two attempts to reach a database that is away.
_PAUSE_S = 0.5


class ChannelBell(Bell):
    """One connection that listens.  A fresh one counts as a ring: one may have been missed."""

    def __init__(self, url: str, role: str) -> None:
        self._url = url
        self._role = role
        self._connection: psycopg.AsyncConnection | None = None

    @staticmethod
    def channel(role: str) -> str:
        """The name of the bell of ``role`` in the database."""
        return f"edif_{role}"

    async def wait(self, timeout_s: float) -> None:
        """See :meth:`Bell.wait`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if self._connection is None:
                    await self._connect()
                    return
                connection = self._connection
                while not (rang := self._rang(connection)):
                    await _readable(connection.fileno())
                if rang == SOFT:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LULL_S):
                            while self._rang(connection) != _NOW:
                                await _readable(connection.fileno())

    async def _connect(self) -> None:
        while self._connection is None:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="edif bell", **SIGNS_OF_LIFE
                )
                await connection.execute(
                    psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(self.channel(self._role)))
                )
                self._connection = connection
            except psycopg.OperationalError:
                await asyncio.sleep(_PAUSE_S)

    def _rang(self, connection: psycopg.AsyncConnection) -> str:
        """How it rang since the last time, the end of the connection included; nothing where it did not."""
        try:
            connection.pgconn.consume_input()
        except psycopg.OperationalError:
            self.close()
            return _NOW
        rang = ""
        while notify := connection.pgconn.notifies():
            rang = SOFT if notify.extra == SOFT.encode() and rang != _NOW else _NOW
        return rang

    def close(self) -> None:
        """Stop listening."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
