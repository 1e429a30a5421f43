"""How far the load of a model is: what its zygote says, with the time left by an earlier load.

Called by :mod:`~edif_backend.executors.pool`, in the replica's process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from edif_backend.executors import frames
from edif_backend.executors.frames import Kind


async def wait_until_loaded(reader: frames.Reader, say: Callable[[str], None], usual_s: float | None) -> dict[str, Any]:
    """Pass on how far it is until the zygote is ready; what it then tells.

    Args:
        usual_s: how long an earlier load took, if there was one.

    Raises:
        asyncio.IncompleteReadError: the zygote has ended.
    """
    began = time.monotonic()
    doing = "Starting."
    reading = asyncio.ensure_future(frames.read(reader))
    while True:
        if (await asyncio.wait({reading}, timeout=1.0))[0]:
            kind, body = reading.result()
            if kind is Kind.READY:
                return frames.read_words(body)
            doing = frames.text(body)[:200]
            reading = asyncio.ensure_future(frames.read(reader))
        say(doing + time_left(time.monotonic() - began, usual_s))


def time_left(elapsed_s: float, usual_s: float | None) -> str:
    """How far a load is that takes ``usual_s``, once that is worth saying."""
    if not usual_s or usual_s < 2 or elapsed_s > usual_s - 1:
        return ""
    return f" {elapsed_s / usual_s:.0%}, about {usual_s - elapsed_s:.0f} s left."
