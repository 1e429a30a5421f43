"""The jobs table, asked from the gateway's event loop: each question waits in a thread, and no other client with it.

A database that restarts answers seconds later; meanwhile websockets, downloads and the model mirror go on.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Concatenate, ParamSpec, TypeVar

from edif_backend.jobs import Bell, Jobs

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

#: They take turns at one connection; there are several so that all who ask a database that is away wait together.
_THREADS = 8


class Asking:
    """``await ask(Jobs.job, id)``: what ``jobs.job(id)`` answers."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._threads = ThreadPoolExecutor(_THREADS, "jobs")

    async def __call__(self, question: Callable[Concatenate[Jobs, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer.

        Raises:
            NotServing: the database cannot be used.
        """
        return await self.through(functools.partial(question, self._jobs, *args, **kwargs))

    async def small(self, question: Callable[Concatenate[Jobs, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer to a question of a few rows: at once where they are near, for a thread costs more than they do."""
        if self._jobs.near:
            return question(self._jobs, *args, **kwargs)
        return await self(question, *args, **kwargs)

    async def at_length(self, question: Callable[Concatenate[Jobs, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The answer to a question that also reads or stores an object, which may take long: no other waits for it."""
        return await asyncio.to_thread(question, self._jobs, *args, **kwargs)

    async def through(self, work: Callable[Q, T], *args: Q.args, **kwargs: Q.kwargs) -> T:
        """What ``work``, which asks the table itself, returns."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, functools.partial(work, *args, **kwargs))

    def now(self) -> float:
        """The time by which the table's moments are written."""
        return self._jobs.now()

    def bell(self, role: str) -> Bell:
        """The bell that is rung for ``role``."""
        return self._jobs.bell(role)

    def close(self) -> None:
        """Ask no more; questions on their way are answered first."""
        self._threads.shutdown()
        self._jobs.close()
