"""Bounds request bodies, by the declared length or, where none is declared, as they arrive.

FastAPI has such a limit of its own, but it answers in its own words, and a client of nnsight shows its user what the
gateway answers.
"""

from __future__ import annotations

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edif_backend.errors import PayloadTooLarge


class BodyLimit:
    """Middleware that refuses bodies of more than ``limit_bytes``."""

    def __init__(self, app: ASGIApp, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a counted body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        error = PayloadTooLarge(
            f"The request is larger than the {self._limit_bytes} bytes taken; send less with the trace."
        )
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > self._limit_bytes:
            refusal = JSONResponse(
                {"detail": str(error), "code": error.code}, error.http_status, headers={"connection": "close"}
            )
            await refusal(scope, receive, send)
            return
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._limit_bytes:
                raise error
            return message

        await self._app(scope, counted, send)
