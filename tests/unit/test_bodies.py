"""Bodies of requests are bounded, by size and by time, declared or not."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from edif_backend.errors import PayloadTooLarge, RequestTooSlow
from edif_backend.gateway.bodies import BodyLimit


async def _read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass


async def _ask(limit: BodyLimit, pieces: list[bytes], declared: bytes | None = None) -> list[Any]:
    """What is answered to a body of these pieces, after which nothing comes any more."""
    coming, said = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces], []

    async def receive() -> Any:
        return coming.pop(0) if coming else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        said.append(message)

    headers = [] if declared is None else [(b"content-length", declared)]
    await limit({"type": "http", "headers": headers}, receive, send)
    return said


@pytest.mark.parametrize("declared", [b"101", b"\xb2", b"-1", b"1e1", b"", b"9" * 5000])
async def test_what_is_declared_too_large_is_refused_before_a_byte_of_it(declared: bytes) -> None:
    started, body = await _ask(BodyLimit(_read_all, limit_bytes=100), [], declared)
    assert started["status"] == 413
    assert json.loads(body["body"])["code"] == "payload-too-large"


async def test_what_comes_in_too_many_pieces_is_refused() -> None:
    with pytest.raises(PayloadTooLarge):
        await _ask(BodyLimit(_read_all, limit_bytes=100), [b"x" * 60] * 2)


async def test_a_body_that_stops_is_not_waited_for() -> None:
    with pytest.raises(RequestTooSlow, match="3 bytes came in 0 s"):
        await _ask(BodyLimit(_read_all, limit_bytes=100, patience_s=0.0), [b"x", b"xx"])
