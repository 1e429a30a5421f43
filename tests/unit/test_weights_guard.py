"""When a job's answer may go out, by what checks of shared weights say."""

from __future__ import annotations

import asyncio

import pytest

from edif_backend.errors import WeightsChanged
from edif_backend.executors.weights_guard import Watched, WeightsGuard
from edif_backend.models.devices import inside, kept, nodes


class Keeper:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: asyncio.Queue[bool] = asyncio.Queue()
        self.suspects: list[list[str]] = []

    async def check(self) -> bool:
        self.asked += 1
        return await self.answers.get()


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


@pytest.fixture
def guard(keeper: Keeper) -> WeightsGuard:
    return WeightsGuard(keeper.check, keeper.suspects.append)


async def turn() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_job_alone_is_believed_at_once_and_the_next_waits(guard: WeightsGuard, keeper: Keeper) -> None:
    async with guard.watch("ada") as job:
        pass
    await guard.believe(job)
    await turn()
    assert keeper.asked == 1

    async def next_job() -> str:
        async with guard.watch("ada"):
            return "began"

    waiting = asyncio.create_task(next_job())
    await turn()
    assert not waiting.done()
    keeper.answers.put_nowait(True)
    keeper.answers.put_nowait(True)
    assert await waiting == "began"
    await guard.settled()


async def both(guard: WeightsGuard, first: str, second: str) -> tuple[Watched, Watched]:
    """Two jobs at the same time, the first of which ends first."""
    one, two = guard.watch(first), guard.watch(second)
    job, other = await one.__aenter__(), await two.__aenter__()
    await one.__aexit__(None, None, None)
    await turn()
    await two.__aexit__(None, None, None)
    return job, other


async def test_a_job_beside_another_users_waits_for_the_check(guard: WeightsGuard, keeper: Keeper) -> None:
    job, other = await both(guard, "ada", "grace")
    believing = asyncio.create_task(guard.believe(job))
    await turn()
    assert not believing.done()
    keeper.answers.put_nowait(True)
    keeper.answers.put_nowait(True)
    await believing
    await guard.believe(other)
    assert keeper.asked == 2  # what ended during a check is looked at by another
    assert keeper.suspects == []


async def test_who_ran_while_weights_changed_is_not_believed(guard: WeightsGuard, keeper: Keeper) -> None:
    one, two = guard.watch("mallory"), guard.watch("grace")
    await one.__aenter__()
    harmed = await two.__aenter__()
    await one.__aexit__(None, None, None)
    keeper.answers.put_nowait(False)
    await turn()
    await two.__aexit__(None, None, None)
    keeper.answers.put_nowait(True)
    with pytest.raises(WeightsChanged):
        await guard.believe(harmed)
    assert keeper.suspects == [["grace", "mallory"]]


async def test_two_jobs_of_one_user_do_not_wait_for_each_other(guard: WeightsGuard, keeper: Keeper) -> None:
    job, _ = await both(guard, "ada", "ada")
    await guard.believe(job)
    for _ in range(2):
        keeper.answers.put_nowait(True)
    await guard.settled()


def test_a_jail_shows_its_own_gpus_numbered_anew() -> None:
    parts = [("cuda:5", 10), ("cuda:3", 20)]
    assert inside(parts) == (("cuda:1", 10), ("cuda:0", 20))
    assert nodes(parts)[:2] == ("/dev/nvidia3", "/dev/nvidia5")
    assert inside([("cpu", 1)]) == (("cpu", 1),)
    assert nodes([("cpu", 1)]) == ()


def test_devices_that_pretend_have_no_keeper() -> None:
    assert kept([("simulated:0", 1), ("simulated:1", 1)]) == ()
    assert kept([("cuda:0", 1)]) == [("cuda:0", 1)]
