"""A line carries jobs to a replica and outcomes back; when it is lost, nobody waits for ever."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edif_backend.replicas.call import Call, Outcome
from edif_backend.replicas.line import Line, LineEnd, forget

NAME = "replica:edif/tiny-gpt2@0123456789ab#1"
CALL = Call(
    job="a" * 32,
    user="ada",
    worker="dispatcher",
    attempt=1,
    payload="payloads/" + "a" * 32,
    payload_bytes=10,
    compress=True,
    env={"attn_implementation": "sdpa", "nested": {"words": ["\N{GRINNING FACE}", "two\nlines"]}},
    time_limit_s=60.0,
    keep_bytes=0,
)


class House:
    """What a replica does with jobs: it ends them when the test says so."""

    def __init__(self) -> None:
        self.heard: dict[str, Call] = {}
        self.ends: dict[str, asyncio.Future[Outcome]] = {}
        self.came = asyncio.Event()

    async def run(self, call: Call) -> Outcome:
        self.heard[call.job] = call
        self.ends[call.job] = asyncio.get_running_loop().create_future()
        self.came.set()
        return await self.ends[call.job]

    async def until_heard(self, *jobs: str) -> None:
        async with asyncio.timeout(30):
            while not set(jobs) <= self.heard.keys():
                self.came.clear()
                await self.came.wait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    above = tmp_path / ("a long name " * 15)  # longer than the address of a socket may be
    above.mkdir()
    return above / "lines"


def sockets(folder: Path) -> list[Path]:
    assert folder.stat().st_mode & 0o077 == 0
    return list(folder.iterdir())


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def end(folder: Path, house: House) -> AsyncIterator[LineEnd]:
    end = LineEnd(house.run)
    await end.open(folder, NAME)
    yield end
    assert end._server
    end._server.close()


@pytest.fixture
async def line(folder: Path, end: LineEnd) -> AsyncIterator[Line]:
    line = await Line.to(folder, NAME)
    assert line
    yield line
    line.close()


async def test_jobs_go_there_and_outcomes_come_back_whichever_ends_first(line: Line, house: House) -> None:
    calls = [dataclasses.replace(CALL, job=letter * 32) for letter in "ab"]
    first, second = (asyncio.create_task(line.run(call)) for call in calls)
    await house.until_heard("a" * 32, "b" * 32)
    assert list(house.heard.values()) == calls
    outcome = Outcome("ok", "\N{GRINNING FACE}\n" * 50_000, result="results/x", seconds={"run": 0.25}, started_at=5.5)
    house.ends["b" * 32].set_result(outcome)
    assert await second == outcome
    assert not first.done()
    house.ends["a" * 32].set_result(Outcome("user-code", "no"))
    assert (await first).code == "user-code"


async def test_no_replica_no_line(folder: Path, tmp_path: Path) -> None:
    assert await Line.to(folder, NAME) is None
    assert await Line.to(tmp_path, NAME) is None


async def test_who_waits_when_the_line_is_lost_hears_it_and_so_does_the_next(line: Line, house: House) -> None:
    waits = asyncio.create_task(line.run(CALL))
    await house.until_heard(CALL.job)
    line._writer.transport.abort()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(waits, 30)
    with pytest.raises(ConnectionError):
        await line.run(CALL)


async def test_a_mistake_in_the_replica_leaves_nobody_waiting(line: Line, house: House) -> None:
    waits = asyncio.create_task(line.run(CALL))
    await house.until_heard(CALL.job)
    house.ends[CALL.job].set_exception(RuntimeError("a mistake"))
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(waits, 30)


async def test_a_job_goes_on_when_its_dispatcher_ends(folder: Path, line: Line, house: House) -> None:
    asyncio.create_task(line.run(CALL)).add_done_callback(lambda task: task.exception())
    await house.until_heard(CALL.job)
    line.close()
    again = await Line.to(folder, NAME)
    assert again
    asked = asyncio.create_task(again.run(dataclasses.replace(CALL, job="b" * 32)))
    await house.until_heard("b" * 32)
    assert not house.ends[CALL.job].cancelled()
    house.ends["b" * 32].set_result(Outcome("ok"))
    assert (await asked).code == "ok"
    again.close()


async def test_nobody_else_reaches_the_sockets_and_none_is_left(folder: Path, end: LineEnd) -> None:
    assert len(sockets(folder)) == 1
    forget(folder, NAME)
    forget(folder, NAME)
    assert not sockets(folder)
