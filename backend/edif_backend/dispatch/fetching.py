"""The files of models, fetched or made before anybody loads them, each by a process of its own.

Used by :mod:`~edif_backend.dispatch.residents`, in the dispatcher's process.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from edif_backend.models.catalogue import ModelEntry


class Fetching:
    """Which models' files are being made ready.

    Args:
        spawn: starts work beside the dispatcher's loop.
        say: is told how far a model's files are.
        done: is called when a process has ended, with its last line and whether it failed.
    """

    def __init__(
        self,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        say: Callable[[ModelEntry, str], None],
        done: Callable[[ModelEntry, str, bool], None],
    ) -> None:
        self._spawn = spawn
        self._say = say
        self._done = done
        self.under_way: set[str] = set()

    def begin(self, entry: ModelEntry) -> None:
        """Have the files of ``entry`` made ready."""
        self.under_way.add(entry.id)
        self._say(entry, f"{entry.id} is fetched.")
        self._spawn(self._prepare(entry))

    async def _prepare(self, entry: ModelEntry) -> None:
        """In a process of its own: some sources need torch, and all need time."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edif_backend.models", "prepare", entry.id),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        line = ""
        assert process.stdout
        async for said in process.stdout:
            line = said.decode(errors="replace").strip()[:500] or line
            self._say(entry, line)
        self.under_way.discard(entry.id)
        self._done(entry, line, await process.wait() != 0)
