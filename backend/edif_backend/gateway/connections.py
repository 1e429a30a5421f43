"""How long a connection may keep the gateway waiting: for the head of a request, and for what it has sent to be read.

uvicorn waits for ever for either.  How long the body of a request may take is bounded in
:mod:`~edif_backend.gateway.bodies`; a websocket that does not answer pings ends by uvicorn's own settings.
"""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: From the connection's start, or the last answer on it, to the end of the next request's head.
HEAD_S = 20.0

#: How long a client that is gone, or does not read, may leave what was sent to it lie; the kernel counts.
UNREAD_S = 60.0


class Connection(HttpToolsProtocol):
    """One connection, also of a websocket until it is one; given to uvicorn as its ``http`` protocol."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        peer = cast(socket.socket, transport.get_extra_info("socket"))
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_S * 1000))
        self._await_head()

    def on_headers_complete(self) -> None:
        """The head of a request has come."""
        self._await_head(False)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """An answer is complete; further requests may have come meanwhile."""
        super().on_response_complete()
        if self.cycle.response_complete:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._await_head(False)
        super().connection_lost(exc)

    def _await_head(self, awaited: bool = True) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.abort) if awaited else None


class Websocket(WebSocketsSansIOProtocol):
    """A websocket, as uvicorn's ``ws``; its own raises on a broken frame that comes before the handshake's answer."""

    def handle_parser_exception(self) -> None:
        """The client has sent what is no frame; before its handshake was answered there is no websocket to close."""
        if self.conn.close_sent is not None:
            super().handle_parser_exception()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1002})
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
        self.transport.close()
