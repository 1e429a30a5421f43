"""Jobs sent straight to a pool of executors, for tests without Ray and gateway."""

from __future__ import annotations

import io
from typing import Any

import torch
import zstandard
from nnsight.schema.request import RequestModel
from tests.memory_keeper import MemoryKeeper

from edif_backend.executors.pool import ExecutorPool, Work


class Sink:
    """Takes a result."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data


class Job:
    """One job, sent straight to the pool."""

    def __init__(self, pool: ExecutorPool, user: str = "ada") -> None:
        self.pool = pool
        self.user = user
        self.said: list[str] = []
        self.started = 0
        self.keeper = MemoryKeeper(1 << 25)

    async def run(self, payload: bytes, compress: bool = True, env: dict[str, Any] | None = None) -> dict[str, Any]:
        sink = Sink()

        def start() -> None:
            self.started += 1

        done = await self.pool.run(
            Work(
                user=self.user,
                compress=compress,
                env=env or {},
                payload=payload,
                sink=sink,
                keeper=self.keeper,
                time_limit_s=5,
                started=start,
                said=self.said.append,
            )
        )
        data = bytes(sink.data)
        assert done.result_bytes == len(data)
        data = zstandard.ZstdDecompressor().decompress(data) if compress else data
        saved: dict[str, Any] = torch.load(io.BytesIO(data), weights_only=False)
        return saved


class Capture:
    """A backend of nnsight that keeps the payload instead of sending it."""

    def __init__(self) -> None:
        self.payload = b""

    def __call__(self, tracer: Any) -> None:
        self.payload = RequestModel.serialize(tracer, compress=True)
