"""Turns of starting servers, sizes and spawners by setting, refusals, room in a home: without a hub."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub.spawner import SpawnException

from edif_hub import spawners
from edif_hub.housekeeping import Reserve
from edif_hub.settings import Profile, ServerSettings
from edif_hub.start_queue import StartQueue
from edif_hub.user_server import __main__ as starting
from edif_hub.user_server.room import lack_of_room, remove_left_rescues, size_of
from edif_hub.user_server.settings import UserServerSettings
from edif_protocol.installation import Installation

MIB = 1024 * 1024


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_come_in_order_and_each_knows_its_place() -> None:
    clock, began = Clock(), []
    queue = StartQueue(2, clock)

    async def start(name: str) -> None:
        await queue.turn(name)
        began.append(name)

    starts = [asyncio.create_task(start(name)) for name in "abcde"]
    await _settle()
    assert began == ["a", "b"]
    assert [queue.ahead(name) for name in "acde"] == [None, 0, 1, 2]
    assert "You are next" in queue.words("c")
    assert "One person is before you" in queue.words("d")
    assert "2 people are before you" in queue.words("e")
    clock.now = 30.0
    queue.over("b")
    await _settle()
    assert began == ["a", "b", "c"]
    assert "about 30 seconds" in queue.words("d")  # as long as the last start took
    assert "is starting" in queue.words("c")
    queue.over("a")
    queue.over("c")
    await asyncio.gather(*starts)
    assert began == list("abcde")


async def test_who_gives_up_leaves_the_queue_and_holds_nobody_up() -> None:
    queue = StartQueue(1)
    await queue.turn("a")
    gives_up, stays = asyncio.create_task(queue.turn("b")), asyncio.create_task(queue.turn("c"))
    await _settle()
    gives_up.cancel()
    await _settle()
    assert queue.ahead("c") == 0
    queue.over("a")
    await stays
    queue.over("nobody")


def _settings(**said: Any) -> ServerSettings:
    return ServerSettings(**said)


@pytest.fixture(autouse=True)
def _no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))


@pytest.mark.parametrize("kind", ["local", "systemd", "docker", "batch"])
def test_every_spawner_can_be_chosen_and_knows_all_that_it_is_told(kind: str, tmp_path: Path) -> None:
    settings = _settings(spawner=kind)
    found = spawners.spawner_class(settings, StartQueue(1))
    told = spawners.traits(settings, Installation(home=tmp_path))
    assert set(told) <= set(found.class_trait_names(config=True))
    assert found.__name__ in {"SimpleLocalProcessSpawner", "SystemdSpawner", "DockerSpawner", "SlurmSpawner"}
    assert spawners.command(settings)[-1].endswith(("edif_hub.user_server", "edif-server"))


def test_options_of_the_operator_go_before(tmp_path: Path) -> None:
    settings = _settings(spawner="batch", options={"req_partition": "lab", "req_prologue": "module load python"})
    told = spawners.traits(settings, Installation(home=tmp_path))
    assert told["req_partition"] == "lab"
    assert told["req_prologue"] == "module load python"


@pytest.mark.parametrize(
    ("kind", "limits"), [("local", (None, None)), ("systemd", (8 * 1024 * MIB, 2)), ("docker", (8 * 1024 * MIB, 2))]
)
def test_limits_are_given_to_spawners_that_keep_them(kind: str, limits: tuple[Any, Any]) -> None:
    spawner = SimpleNamespace(mem_limit=None, cpu_limit=None)
    spawners.apply_profile(_settings(spawner=kind), spawner, {"profile": "medium"})
    assert (spawner.mem_limit, spawner.cpu_limit) == limits


def test_a_batch_job_asks_for_the_size() -> None:
    spawner = SimpleNamespace()
    own = {"lab": Profile(title="Lab", memory_bytes=4096 * MIB, cpus=1.5)}
    asked = {"memory": "512G", "options": "--exclusive"}
    spawners.apply_profile(_settings(spawner="batch", profiles=own), spawner, asked)
    assert (spawner.req_memory, spawner.req_nprocs) == ("4096M", "2")
    assert spawner.user_options == {"profile": "lab"}  # the rest would be written into the job's script


def test_an_unknown_account_and_full_memory_are_refused_with_what_to_do() -> None:
    with pytest.raises(SpawnException, match="no account “edif-nobody-here”") as refusal:
        spawners.check_before_start(_settings(spawner="systemd"), "edif-nobody-here", 0)
    assert refusal.value.status_code == 403
    spawners.check_before_start(_settings(spawner="systemd"), "root", 0)
    with pytest.raises(SpawnException, match="100 MiB, and one needs 300"):
        spawners.check_before_start(_settings(), "ada", 100 * MIB)
    spawners.check_before_start(_settings(), "ada", spawners.free_memory_bytes() + 300 * MIB)


def test_room_is_judged_by_quota_by_what_is_left_and_by_trying(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2 * MIB))
    (tmp_path / "again").hardlink_to(tmp_path / "large")
    assert 2 * MIB <= size_of(tmp_path) < 3 * MIB
    assert lack_of_room(tmp_path, 0, 1) is None
    assert "may take 1 MiB" in (lack_of_room(tmp_path, MIB, 1) or "")
    assert "disk of your files is full" in (lack_of_room(tmp_path, 0, 2**62) or "")


def test_a_server_without_room_starts_in_rescue_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(2 * MIB))
    before = set(tmp_path.iterdir())
    found, rescue = starting.prepare(UserServerSettings(home=tmp_path, home_bytes=MIB))
    assert "Delete files" in json.loads(found["EDIF_SERVER_NOTICES"])[0]
    assert not found["JUPYTER_RUNTIME_DIR"].startswith(str(tmp_path))
    assert set(tmp_path.iterdir()) == before
    assert rescue
    assert rescue.place not in remove_left_rescues()  # its server runs
    assert Path(found["JUPYTER_RUNTIME_DIR"]).is_dir()
    rescue.end()
    assert not rescue.place.exists()


def test_what_a_killed_server_left_in_memory_is_removed() -> None:
    die = "import os, signal; from edif_hub.user_server.room import Rescue; rescue = Rescue()"
    die += "; print(rescue.variables['TMPDIR'], flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    left = Path(subprocess.run([sys.executable, "-c", die], capture_output=True, text=True, check=False).stdout.strip())
    assert left.is_dir()
    assert left.parent in remove_left_rescues()
    assert not left.parent.exists()


def test_the_first_start_opens_the_welcome_notebook(tmp_path: Path) -> None:
    first, _ = starting.prepare(UserServerSettings(home=tmp_path))
    assert first["JUPYTERHUB_DEFAULT_URL"] == "/lab/tree/tutorials/00_hello.ipynb"
    assert json.loads(first["EDIF_SERVER_NOTICES"]) == []
    assert starting.prepare(UserServerSettings(home=tmp_path))[0]["JUPYTERHUB_DEFAULT_URL"] == "/lab"


def test_the_hubs_reserve_is_given_up_on_a_full_disk_and_made_again(tmp_path: Path) -> None:
    file = tmp_path / "reserve"
    reserve = Reserve(file)
    reserve.look(2048 * MIB)
    assert file.stat().st_blocks * 512 >= 16 * MIB
    reserve.look(100 * MIB)
    assert file.exists()
    reserve.look(MIB)
    assert not file.exists()
    reserve.look(100 * MIB)
    assert not file.exists()
