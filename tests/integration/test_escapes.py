"""The escape suite: each attempt is a job in the jail, where it must fail, and a plain process, where it must work.

After each, the replica's side is there and the next user's job is right.  Needs bubblewrap; no Ray, no gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import nnsight
import pytest
import pytest_asyncio
import torch
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from tests.escapes import attempts, bombs, files, kernel_calls, neighbours, network, siblings
from tests.escapes.attempts import Attempt, Scene
from tests.escapes.control import Outside, control_is_possible, standing_by, steps
from tests.memory_keeper import MemoryKeeper

from edif_backend.errors import ExecutorLost, JobFailed, UserCodeFailed
from edif_backend.executors import jail
from edif_backend.executors.pool import ExecutorPool, Limits, Work
from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.snapshots import Snapshot, prepare

ATTEMPTS = [*neighbours.ATTEMPTS, *files.ATTEMPTS, *network.ATTEMPTS, *kernel_calls.ATTEMPTS, *bombs.ATTEMPTS]
ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID)
LIMITS = Limits(result_bytes=1 << 20, memory_bytes=2 << 30, tmp_bytes=16 << 20, threads=1)

#: What user code travels in, and what the control reads: by value, for neither has this folder.
for module in (attempts, bombs, files, kernel_calls, neighbours, network, siblings, sys.modules[__name__]):
    nnsight.register(module)
    cloudpickle.register_pickle_by_value(module)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return prepare(ENTRY, tmp_path_factory.mktemp("models"), lambda _: None)


@pytest.fixture(scope="module")
def model(snapshot: Snapshot) -> TransformersModel:
    return TransformersModel(str(snapshot.folder), task="text-generation")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(snapshot: Snapshot) -> AsyncIterator[ExecutorPool]:
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1)
    await executors.start(lambda _: None)
    yield executors
    await executors.stop()


@pytest.fixture(scope="module")
def scene(snapshot: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with standing_by(tmp_path_factory.mktemp("scene"), next(Path(snapshot.folder).glob("*.safetensors"))) as made:
        yield made


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    with Outside(tmp_path_factory.mktemp("outside")) as control:
        yield control


class Capture:
    """A backend of nnsight that keeps the payload instead of sending it."""

    def __init__(self) -> None:
        self.payload = b""

    def __call__(self, tracer: Any) -> None:
        self.payload = RequestModel.serialize(tracer)


class Kept:
    """A result that is kept in memory."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data


async def run(
    pool: ExecutorPool,
    model: TransformersModel,
    code: Callable[[], Any],
    said: list[str] | None = None,
    user: str = "ada",
) -> Any:
    """What ``code`` gives when it runs as a job."""
    capture = Capture()
    with model.trace(torch.tensor([[0, 1, 2]]), backend=capture):
        answer = code().save()  # noqa: F841 - read on the far side
    sink = Kept()
    lines = [] if said is None else said
    await pool.run(
        Work(
            user=user,
            compress=False,
            env={},
            payload=capture.payload,
            sink=sink,
            keeper=MemoryKeeper(),
            time_limit_s=120,
            said=lines.append,
        )
    )
    return torch.load(io.BytesIO(sink.data), weights_only=False)["answer"]


async def in_the_jail(pool: ExecutorPool, model: TransformersModel, attempt: Attempt, scene: Scene) -> Any:
    came = None
    for code in steps(attempt):
        try:
            came = await run(pool, model, lambda code=code: code(scene) or 0)
        except JobFailed:
            came = None
    return came


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=str)
async def test_nothing_gets_out(
    pool: ExecutorPool, model: TransformersModel, outside: Outside, scene: Scene, attempt: Attempt
) -> None:
    if control_is_possible(attempt):
        worked = await asyncio.to_thread(outside.works, steps(attempt), scene)
        assert worked, "the control: it does not work outside either"
    assert not await in_the_jail(pool, model, attempt, scene)
    assert await run(pool, model, lambda: 42) == 42
    assert pool.alive


async def test_another_users_executor_of_the_same_zygote_is_out_of_reach(
    pool: ExecutorPool, model: TransformersModel, outside: Outside, tmp_path: Path
) -> None:
    name, told = f"edif-sibling-{os.getpid()}", tmp_path / "told"
    hiding: Scene = {"name": name, "told": "", "seconds": 100}
    said: list[str] = []
    graces = asyncio.create_task(run(pool, model, lambda: siblings.hide(hiding), said, user="grace"))
    plain = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", "import pickle, sys; code, scene = pickle.load(sys.stdin.buffer); code(scene)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    assert plain.stdin
    plain.stdin.write(cloudpickle.dumps((siblings.hide, dict(hiding, told=str(told)))))
    plain.stdin.close()
    try:
        while not (said and told.exists() and told.read_text().endswith("told")):
            assert not graces.done()
            assert plain.poll() is None
            await asyncio.sleep(0.05)
        pid, address, _ = told.read_text().split()
        known = {**hiding, "others": [int(pid)], "address": int(address)}
        for attempt in siblings.ATTEMPTS:
            if control_is_possible(attempt):
                assert await asyncio.to_thread(outside.works, [attempt.code], known), f"control of {attempt}"
            assert not await in_the_jail(pool, model, attempt, {**hiding, "others": list(range(1, 300))}), attempt.name
        assert not graces.done(), "it was there all the time"
        assert plain.poll() is None
    finally:
        graces.cancel()
        plain.kill()
        await asyncio.to_thread(plain.wait)
        for left in ("/tmp", "/dev/shm"):
            await asyncio.to_thread(Path(left, name).unlink, missing_ok=True)
        with contextlib.suppress(asyncio.CancelledError):
            await graces


async def test_there_are_as_many_as_promised() -> None:
    assert len(ATTEMPTS) >= 100
    assert len({attempt.name for attempt in ATTEMPTS}) == len(ATTEMPTS)


async def test_all_layers_stand_here() -> None:
    layers = await asyncio.to_thread(jail.trial)
    assert layers.enough
    assert layers.processes_counted


def speak(raw: bytes, times: int = 1, end: bool = True) -> int:
    """User code that writes to the replica itself, past everything that should."""
    import os
    import socket as sockets
    import stat

    for number in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                break
        except OSError:
            continue
    sock = sockets.socket(fileno=number)
    for _ in range(times):
        sock.sendall(raw)
    if end:
        os._exit(0)
    sock.detach()
    return 1


def frame(kind: int, body: bytes = b"", length: int | None = None, magic: bytes = b"eDIF") -> bytes:
    import struct

    return struct.pack("!4sBxxxQ", magic, kind, len(body) if length is None else length) + body


FORGED: dict[str, bytes] = {
    "a length of all there is": frame(5, b"x", length=2**64 - 1),
    "a length just over the limit": frame(4, b"x", length=(1 << 20) + 1),
    "a frame that never ends": frame(5, b"x", length=1 << 20),
    "half a header": b"eDIF\5",
    "another protocol": frame(5, b"x", magic=b"HTTP"),
    "a kind that is not": frame(250),
    "a frame of the zygote's": frame(9, b'{"pid": 1}'),
    "a frame of the replica's": frame(13, b'{"pid": 1}'),
    "that the model is ready": frame(12, b'{"parameters": 1}'),
    "a job for another": frame(1, b'{"compress": false, "env": {}}'),
    "an end that is not JSON": frame(6, b"\x80\x04."),
    "an end that is a list": frame(6, b"[]"),
    "an end nested too deeply": frame(6, b"[" * 200_000),
    "a number of too many digits": frame(6, b'{"result_bytes": ' + b"9" * 10_000 + b"}"),
    "starting twice": frame(3) * 2,
}


@pytest.mark.parametrize("forged", FORGED)
async def test_forged_frames_end_their_own_job_alone(pool: ExecutorPool, model: TransformersModel, forged: str) -> None:
    raw = FORGED[forged]
    with pytest.raises(ExecutorLost):
        await run(pool, model, lambda: speak(raw))
    assert await run(pool, model, lambda: 42) == 42


async def test_the_control_of_forged_frames_one_in_good_form_arrives(
    pool: ExecutorPool, model: TransformersModel
) -> None:
    said: list[str] = []
    raw = frame(4, b"forged \x1b]0;title\x07\x1b[2J")
    assert await run(pool, model, lambda: speak(raw, end=False), said) == 1
    assert said == ["forged "]


async def test_a_forged_failure_is_shown_as_text(pool: ExecutorPool, model: TransformersModel) -> None:
    raw = frame(7, b'{"description": "\\ud800 \\u001b[2J \\u202e", "code": "ok", "result": "results/of-another"}')
    with pytest.raises(UserCodeFailed) as caught:
        await run(pool, model, lambda: speak(raw))
    assert str(caught.value) == "?  \N{REPLACEMENT CHARACTER}"


async def test_a_forged_end_gives_nothing_but_ones_own_bytes(pool: ExecutorPool, model: TransformersModel) -> None:
    raw = frame(5, b"mine") + frame(6, b'{"result_bytes": 99, "result": "results/1-1", "seconds": {"run": Infinity}}')
    capture, sink = Capture(), Kept()
    with model.trace(torch.tensor([[0, 1, 2]]), backend=capture):
        answer = speak(raw).save()  # noqa: F841 - read on the far side
    done = await pool.run(
        Work(
            user="ada",
            compress=False,
            env={},
            payload=capture.payload,
            sink=sink,
            keeper=MemoryKeeper(),
            time_limit_s=20,
        )
    )
    assert sink.data == b"mine"
    assert done.result_bytes == 4
    assert set(done.seconds) == {"executor"}
