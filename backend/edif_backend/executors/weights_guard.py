"""Weights that several executors map are checked after each job, and a job is believed only if they were right.

Used by the pool of a model on devices, outside the jail.  A job that ran while nobody else's did can have harmed its
own result alone: it is answered at once, and the next one waits for the check.  One that ran beside another user's is
answered after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from edif_backend.errors import WeightsChanged


@dataclass(eq=False, slots=True)
class Watched:
    """One running job."""

    user: str
    beside_others: bool = False
    doubtful: bool = False  #: a check has failed while it ran


@dataclass(slots=True)
class WeightsGuard:
    """Who runs, and what checks have said.

    Args:
        check: asks the keeper; False when weights were not as they should be (they are again).
        changed: told which users' jobs ran when a check failed.
    """

    check: Callable[[], Awaitable[bool]]
    changed: Callable[[list[str]], None]
    _running: set[Watched] = field(default_factory=set)
    _since: set[str] = field(default_factory=set)  #: users whose jobs have ended since the last check began
    _checking: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, user: str) -> AsyncIterator[Watched]:
        """Within, a job of ``user`` runs; it begins on weights that were checked after the job before."""
        await self._settled()
        job = Watched(user)
        for other in self._running:
            if other.user != user:
                other.beside_others = job.beside_others = True
        self._running.add(job)
        try:
            yield job
        finally:
            self._running.discard(job)
            self._since.add(user)
            if self._checking is None:
                self._checking = asyncio.create_task(self._check())

    async def believe(self, job: Watched) -> None:
        """Return when the job's answer may go out; asked after :meth:`watch` has ended.

        Raises:
            WeightsChanged: it may have computed with weights that somebody else had changed.
        """
        if job.beside_others:
            await self._settled()
        if job.doubtful:
            raise WeightsChanged

    async def settled(self) -> None:
        """Return when nothing is left to check."""
        await self._settled()

    async def _settled(self) -> None:
        while self._checking is not None:
            await asyncio.shield(self._checking)

    async def _check(self) -> None:
        try:
            while self._since:
                suspects = self._since | {job.user for job in self._running}
                self._since = set()
                if not await self.check():
                    for job in self._running:
                        job.doubtful = True
                    self.changed(sorted(suspects))
        finally:
            self._checking = None
