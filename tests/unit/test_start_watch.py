"""A server that dies, is refused or hangs while it starts is told of in a sentence, whatever spawner."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from edif_hub import spawners, start_watch
from edif_hub.settings import ServerSettings
from edif_hub.start_queue import StartQueue

ADA = SimpleNamespace(name="ada", id=1, url="/user/ada/", escaped_name="ada")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    monkeypatch.setattr(start_watch, "_ASK_S", 0)
    monkeypatch.setattr(start_watch, "_LOOK_S", 0)


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[bool]], None]:
    """Says in turn whether the server listens; the last word counts for all later ones."""

    def say(words: list[bool]) -> None:
        async def listens(ip: str, port: int) -> bool:
            return words.pop(0) if len(words) > 1 else words[0]

        monkeypatch.setattr(start_watch, "_listens", listens)

    return say


class Plain:
    """A spawner that starts at once."""

    start_timeout = 180.0
    alive = True

    async def start(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    async def poll(self) -> int | None:
        return None if self.alive else 1


class WatchedPlain(start_watch.WatchedStart, Plain):
    pass


async def test_a_start_ends_when_the_server_listens(listening: Callable[[list[bool]], None]) -> None:
    left = [False, False, True]
    listening(left)
    assert await WatchedPlain().start() == ("127.0.0.1", 1)
    assert left == [True]


async def test_a_process_that_dies_is_told_of(listening: Callable[[list[bool]], None]) -> None:
    listening([False])
    spawner = WatchedPlain()
    spawner.alive = False
    with pytest.raises(SpawnException) as death:
        await spawner.start()
    assert "ended right after its start. Try again" in death.value.message
    assert death.value.reason == "died"


async def test_one_that_hangs_is_called_off_with_a_sentence(listening: Callable[[list[bool]], None]) -> None:
    listening([False])
    spawner = WatchedPlain()
    spawner.start_timeout = 0.001
    with pytest.raises(SpawnException, match="did not come up within") as delay:
        await spawner.start()
    assert delay.value.status_code == 500


class Slurm:
    """Answers of ``sbatch`` and ``squeue``, one after the other; the last for ever."""

    def __init__(self, *said: str | Exception) -> None:
        self._said = list(said)

    async def __call__(self, cmd: str, **given: Any) -> str:
        if "scancel" in cmd:
            return ""
        said = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        if isinstance(said, Exception):
            raise said
        return said


def _job(*said: str | Exception, **traits: Any) -> Any:
    """batchspawner's own class as the hub makes it, before a Slurm that says this."""
    made: Any = spawners.spawner_class(ServerSettings(spawner="batch"), StartQueue(1))
    spawner = made(user=ADA, api_token="x", req_homedir="/home/ada", startup_poll_interval=0.0, **traits)
    spawner.get_env, spawner._deprecated_db_session = dict, SimpleNamespace(commit=lambda: None)
    spawner.run_command = Slurm(*said)
    return spawner


async def _told(spawner: Any) -> str:
    with pytest.raises(SpawnException) as told:
        await spawner.start()
    return str(told.value.message)


async def test_a_job_that_dies_before_it_has_said_its_port() -> None:
    told = await _told(_job("7", "RUNNING node1", "RUNNING node1", ""))
    assert "job 7 ended right after it had begun" in told
    assert "jupyterhub_slurmspawner_7.log" in told


async def test_a_job_that_dies_before_it_was_seen_running() -> None:
    assert "job 7 ended right after it had begun" in await _told(_job("7", "PENDING", "FAILED node1"))


async def test_a_job_that_dies_after_it_has_said_its_port(listening: Callable[[list[bool]], None]) -> None:
    listening([False])
    spawner = _job("7", "RUNNING node1", "RUNNING node1", "RUNNING node1", "")
    spawner.mock_port = 8888  # batchspawner's own way to say it in tests
    assert "job 7 ended right after it had begun" in await _told(spawner)


async def test_a_job_that_slurm_does_not_take() -> None:
    told = await _told(_job(RuntimeError("sbatch: error: invalid partition specified: lab\n")))
    assert "did not take your server's job: sbatch: error: invalid partition specified: lab. Try again" in told


async def test_a_job_that_waits_in_the_queue_says_so() -> None:
    spawner = _job("7", "PENDING")
    start = asyncio.create_task(spawner.start())
    for _ in range(20):  # submitted, asked for
        await asyncio.sleep(0)
    assert spawner.waiting_words == "The job of your server waits in the cluster's queue."
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start


async def test_a_job_that_waits_too_long_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_watch, "_PATIENCE", 1e-4)
    told = await _told(_job("7", "PENDING", start_timeout=180))
    assert "The cluster had no room for your server within 180 seconds, so its job 7 was taken back" in told
