"""A pool of executors that gives its place up and takes it again, and one whose executors get no walls; no Ray.

The model of the first is cut over simulated devices.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio
import torch
from nnsight import TransformersModel
from tests.pool_jobs import Capture, Job

from edif_backend.errors import ExecutorLost, ModelUnusable
from edif_backend.executors.pool import ExecutorPool, Limits
from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.memory import layer_bytes
from edif_backend.models.snapshots import Snapshot, prepare

ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID)
LIMITS = Limits(result_bytes=4 << 20, memory_bytes=2 << 30, tmp_bytes=16 << 20, threads=1)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return prepare(ENTRY, tmp_path_factory.mktemp("models"), lambda _: None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(snapshot: Snapshot) -> AsyncIterator[ExecutorPool]:
    sizes = layer_bytes(snapshot, 1)
    parts = [("simulated:0", sum(sizes[:2])), ("simulated:1", sum(sizes[2:]))]
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=2, parts=parts)
    await executors.start(lambda _: None)
    yield executors
    await executors.stop()


def executors_of(pool: ExecutorPool) -> int:
    """How many processes are in a pid namespace of their own inside the jail's."""
    assert pool._zygote
    found = 0
    for process in psutil.Process(pool._zygote.pid).children(recursive=True):
        with contextlib.suppress(OSError):  # it has just ended
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            spaces = next(line.split()[1:] for line in lines if line.startswith("NSpid"))
            found += len(spaces) == 3
    return found


async def until_none(pool: ExecutorPool) -> None:
    while executors_of(pool):  # noqa: ASYNC110 - the kernel tells nobody here
        await asyncio.sleep(0.02)


async def test_a_parked_pool_keeps_its_zygote_alone_and_wakes_with_the_same_answers(
    pool: ExecutorPool, snapshot: Snapshot
) -> None:
    model = TransformersModel(str(snapshot.folder), task="text-generation", dispatch=True)
    capture = Capture()
    with model.trace("Hello there", backend=capture):
        logits = model.output.logits.save()  # read on the far side, and here below
    before = (await Job(pool).run(capture.payload))["logits"]
    torch.set_num_threads(1)
    with model.trace("Hello there"):
        logits = model.output.logits.save()
    assert torch.equal(before, logits), "the parts are all in host memory: nothing is computed otherwise"
    await pool.judged()
    for _ in range(2):
        assert executors_of(pool) >= 2
        await pool.park()
        assert pool.parked
        assert pool.alive
        await until_none(pool)
        await pool.wake()
        assert not pool.parked
        assert executors_of(pool) >= 2
        assert torch.equal((await Job(pool).run(capture.payload))["logits"], before)
        await pool.judged()


async def test_parts_that_are_too_small_are_refused_with_the_sizes(snapshot: Snapshot) -> None:
    parts = [("simulated:0", 1000), ("simulated:1", 1000)]
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1, parts=parts)
    try:
        with pytest.raises(ModelUnusable, match=r"cannot be spread over devices: .* do not fit into 2 parts of 2,000"):
            await executors.start(lambda _: None)
    finally:
        await executors.stop()


async def test_an_executor_that_cannot_be_closed_in_runs_nothing_and_says_why(snapshot: Snapshot) -> None:
    no_tmp = dataclasses.replace(LIMITS, tmp_bytes=-1)  # the kernel refuses to mount it
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), no_tmp, ready=1)
    await executors.start(lambda _: None)
    try:
        with pytest.raises(ExecutorLost, match=r"could not be made ready: it could not be closed in .*mount"):
            await Job(executors).run(b"never read")
    finally:
        await executors.stop()


@pytest.mark.parametrize("inside", [False, True])
async def test_one_that_is_killed_while_it_loads_is_lost_and_not_unusable(snapshot: Snapshot, inside: bool) -> None:
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1)

    def kill(_: str) -> None:
        jail = psutil.Process(executors._zygote.pid)
        for process in jail.children(recursive=True)[-1:] if inside else [jail]:
            process.kill()

    try:
        with pytest.raises(ExecutorLost, match="was killed; it is started again"):
            await executors.start(kill)
    finally:
        await executors.stop()
