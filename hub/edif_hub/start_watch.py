"""Watches a start until the server listens: one that dies or hangs meanwhile is told of at once, in a sentence.

Mixed into the spawner that the settings name (:mod:`edif_hub.spawners`); runs in the hub's process.  JupyterHub alone
waits for a dead server until the time of its start is over, three minutes; batchspawner does so for a dead job,
systemdspawner for a failed unit.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from jupyterhub.spawner import SpawnException
from systemdspawner.systemd import service_failed

_LOOK_S = 0.2
#: How often it is asked whether the server lives; each time costs Slurm or systemd a command.
_ASK_S = 2.0
#: The part of the time for a start after which it is called off here, before JupyterHub does without a sentence.
_PATIENCE = 0.95
_MOST_CHARACTERS = 300

Address = tuple[str, int]


class WatchedStart:
    """A spawner, whatever its kind, whose start ends with a server that listens, or with why there is none."""

    start_timeout: float

    async def start(self) -> Address:
        """Start as the spawner does, and wait for the server.

        Raises:
            SpawnException: it died, was refused, or took too long.
        """
        starting: asyncio.Future[Address] = asyncio.ensure_future(super().start())  # type: ignore[misc]
        try:
            async with asyncio.timeout(self.start_timeout * _PATIENCE):
                return await self._until_it_listens(starting)
        except TimeoutError:
            raise SpawnException(self.words_when_late(), reason="timeout", status_code=500) from None
        finally:
            starting.cancel()

    async def _until_it_listens(self, starting: asyncio.Future[Address]) -> Address:
        while not (await asyncio.wait({starting}, timeout=_ASK_S))[0]:
            if await self.has_died():
                raise self._death()
        try:
            ip, port = starting.result()
        except RuntimeError as error:  # what batchspawner has to say
            raise SpawnException(self.words_when_refused(str(error)), reason="refused", status_code=500) from error
        asked_at = asyncio.get_running_loop().time()
        while not await _listens(ip, port):
            await asyncio.sleep(_LOOK_S)
            if asyncio.get_running_loop().time() - asked_at > _ASK_S:
                if await self.poll() is not None:  # type: ignore[attr-defined]
                    raise self._death()
                asked_at = asyncio.get_running_loop().time()
        return ip, port

    def _death(self) -> SpawnException:
        return SpawnException(self.words_when_dead(), reason="died", status_code=500)

    async def has_died(self) -> bool:
        """Whether what was started is over, though the spawner still waits for it."""
        return False

    def words_while_starting(self) -> str:
        """For the page that waits; empty when there is nothing more to say than that it starts."""
        return ""

    def words_when_dead(self) -> str:
        """For somebody whose server ended while it started."""
        return (
            "Your server ended right after its start. Try again; if it happens again, tell whoever runs this workbench"
            " when it was: the reason is in the hub's log."
        )

    def words_when_late(self) -> str:
        """For somebody whose server took too long."""
        return (
            f"Your server did not come up within {self.start_timeout:.0f} seconds, so it was stopped. Try again in some"
            " minutes; if it happens again, tell whoever runs this workbench when it was."
        )

    def words_when_refused(self, said: str) -> str:
        """For somebody whose server was not started at all."""
        return f"Your server could not be started: {_short(said)} Tell whoever runs this workbench this sentence."


class WatchedUnit(WatchedStart):
    """A systemd unit."""

    unit_name: str

    async def has_died(self) -> bool:
        """The unit was started and has failed."""
        return bool(await service_failed(self.unit_name))

    def words_when_dead(self) -> str:
        """Where the reason stands."""
        return (
            "Your server ended right after its start. Try again; if it happens again, tell whoever runs this workbench:"
            f" the reason is in the journal of {self.unit_name}."
        )


class WatchedJob(WatchedStart):
    """A Slurm job."""

    #: The job of this start; batchspawner forgets its number when it is over.
    _job = ""

    async def submit_batch_script(self) -> str:
        """Submit as batchspawner does, and keep the job's number."""
        self._job = ""
        self._job = await super().submit_batch_script()  # type: ignore[misc]
        return self._job

    async def has_died(self) -> bool:
        """The job has begun and is over, while batchspawner waits to hear its port."""
        began = bool(self._job and self.state_isrunning())  # type: ignore[attr-defined]
        return began and await self.poll() is not None  # type: ignore[attr-defined]

    def words_while_starting(self) -> str:
        """It may wait for long where the cluster is full."""
        waits = self._job and self.state_ispending()  # type: ignore[attr-defined]
        return "The job of your server waits in the cluster's queue." if waits else ""

    def words_when_dead(self) -> str:
        """Where the reason stands."""
        return (
            f"Your server's job {self._job} ended right after it had begun. What it said is in the file"
            f" jupyterhub_slurmspawner_{self._job}.log in your home folder on the cluster. Try again; if it happens"
            " again, tell whoever runs this workbench the number of the job."
        )

    def words_when_late(self) -> str:
        """It waited in the queue, or began and did not come up."""
        if self.state_ispending():  # type: ignore[attr-defined]
            return (
                f"The cluster had no room for your server within {self.start_timeout:.0f} seconds, so its job"
                f" {self._job} was taken back. Try again later, or choose a smaller size on the page “Home”."
            )
        return super().words_when_late()

    def words_when_refused(self, said: str) -> str:
        """Slurm's own words; batchspawner also says so of a job that it has taken and that died before it was seen."""
        if self._job:
            return self.words_when_dead()
        return (
            f"The cluster did not take your server's job: {_short(said)} Try again; if it says so again, tell whoever"
            " runs this workbench this sentence."
        )


async def _listens(ip: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ip, port), timeout=5)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _short(said: str) -> str:
    """What a program said, in one line that ends with a full stop."""
    return " ".join(said.split())[:_MOST_CHARACTERS].rstrip(".") + "."


def watched(kind: str) -> type[Any]:
    """The watch for the spawner of that name in the settings."""
    return {"systemd": WatchedUnit, "batch": WatchedJob}.get(kind, WatchedStart)
