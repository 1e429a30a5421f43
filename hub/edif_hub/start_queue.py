"""Turns for starting servers: a few at once, the others in the order in which they came, each told its place.

A class of twenty that logs in together gets twenty servers one after the other, not twenty starts that are all too
slow.  Used by the hook before a start (:mod:`edif_hub.server`) and the page that waits for it; in the hub's process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from statistics import mean

#: Until a start has been seen, one is thought to take this long.
_FIRST_GUESS_S = 8.0
_REMEMBERED = 10


class StartQueue:
    """The turns of one hub.

    Args:
        at_once: so many starts are under way at most.
    """

    def __init__(self, at_once: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_once = at_once
        self._clock = clock
        self._starting: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._took_s: list[float] = []

    async def turn(self, name: str) -> None:
        """Return when it is the turn of the server ``name``; :meth:`over` gives the turn on."""
        if len(self._starting) < self._at_once and not self._waiting:
            self._starting[name] = self._clock()
            return
        self._waiting[name] = asyncio.get_running_loop().create_future()
        try:
            await self._waiting[name]
        except asyncio.CancelledError:
            self._waiting.pop(name, None)
            self.over(name)
            raise

    def over(self, name: str) -> None:
        """The start of ``name`` has ended, in whatever way: the next may begin."""
        began_at = self._starting.pop(name, None)
        if began_at is not None:
            self._took_s = [*self._took_s, self._clock() - began_at][-_REMEMBERED:]
        while self._waiting and len(self._starting) < self._at_once:
            following = next(iter(self._waiting))
            future = self._waiting.pop(following)
            if not future.done():
                self._starting[following] = self._clock()
                future.set_result(None)

    def ahead(self, name: str) -> int | None:
        """How many begin before ``name`` does; None when it does not wait."""
        return list(self._waiting).index(name) if name in self._waiting else None

    def words(self, name: str) -> str:
        """What somebody who waits for ``name`` reads."""
        ahead = self.ahead(name)
        if ahead is None:
            return "Your server is starting. This takes some seconds."
        wait_s = (ahead // self._at_once + 1) * (mean(self._took_s) if self._took_s else _FIRST_GUESS_S)
        before = {0: "You are next", 1: "One person is before you"}.get(ahead, f"{ahead} people are before you")
        return f"Many servers are starting at the moment. {before}; yours begins in about {_about(wait_s)}."


def _about(seconds: float) -> str:
    if seconds < 90:
        return f"{max(5, round(seconds / 5) * 5)} seconds"
    return f"{round(seconds / 60)} minutes"
