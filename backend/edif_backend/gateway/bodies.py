"""Bounds request bodies: their size, by the declared length or as they arrive, and the time that they take.

FastAPI has a limit of size of its own, but it answers in its own words, and a client of nnsight shows its user what the
gateway answers.
"""

from __future__ import annotations

import asyncio
import time

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edif_backend.errors import PayloadTooLarge, RequestTooSlow

#: A body may keep the gateway waiting this long, and longer by what has come of it at the slowest rate there may be.
PATIENCE_S = 30.0
SLOWEST_BYTES_PER_S = 16 * 1024


class BodyLimit:
    """Middleware that refuses bodies of more than ``limit_bytes``, and those that hardly come."""

    def __init__(self, app: ASGIApp, limit_bytes: int, patience_s: float = PATIENCE_S) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or len(declared) > 18 or int(declared) > self._limit_bytes:
            error = self._too_large()
            refusal = JSONResponse(
                {"detail": str(error), "code": error.code}, error.http_status, headers={"connection": "close"}
            )
            await refusal(scope, receive, send)
            return
        taken, waited_s, more = 0, 0.0, True

        async def counted() -> Message:
            nonlocal taken, waited_s, more
            if not more:  # what comes is that the client goes, and that may take as long as it likes
                return await receive()
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._patience_s + taken / SLOWEST_BYTES_PER_S - waited_s):
                    message = await receive()
            except TimeoutError:
                raise RequestTooSlow(
                    f"The request has not arrived: {taken} bytes came in {waited_s + time.monotonic() - began:.0f} s. "
                    "Check the connection, then send it again."
                ) from None
            waited_s += time.monotonic() - began
            taken += len(message.get("body", b""))
            more = message.get("more_body", False)
            if taken > self._limit_bytes:
                raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The request is larger than the {self._limit_bytes} bytes taken; send less with the trace."
        )
