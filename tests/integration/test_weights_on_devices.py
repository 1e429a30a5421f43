"""Weights that a keeper holds and executors map: on the host's memory everywhere, on a GPU where there is one.

Everything but the calls of CUDA is the same on both: the keeper, the layout, copies on writing, checks after each job,
what a check that fails does.  Needs bubblewrap; no Ray, no gateway.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import nnsight
import psutil
import pytest
import pytest_asyncio
import torch
from nnsight import TransformersModel
from tests.pool_jobs import Capture, Job

from edif_backend.errors import UserCodeFailed, WeightsChanged
from edif_backend.executors.pool import ExecutorPool, Limits
from edif_backend.models.catalogue import TINY_ID, TINY_LORA_ID, Adapter, ModelEntry
from edif_backend.models.quantized import four_bits
from edif_backend.models.snapshots import Snapshot, prepare

nnsight.register(sys.modules[__name__])

PROMPT = "The Eiffel Tower is in the city of"
ADAPTERS = {TINY_LORA_ID: Adapter(source="tiny-lora")}
ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID, adapters=ADAPTERS)
LIMITS = Limits(result_bytes=4 << 20, memory_bytes=2 << 30, tmp_bytes=16 << 20, threads=1)
GPU = Path("/dev/nvidia0").exists()

pytestmark = pytest.mark.asyncio(loop_scope="module")
on_a_gpu = pytest.mark.skipif(not GPU, reason="no NVIDIA GPU on this machine")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    folder = tmp_path_factory.mktemp("models")
    for adapter in ENTRY.adapter_entries:
        prepare(adapter, folder, lambda _: None)
    return prepare(ENTRY, folder, lambda _: None)


@pytest.fixture(scope="module")
def device() -> str:
    return "cuda:0" if GPU else "cpu"


@pytest.fixture(scope="module")
def model(snapshot: Snapshot, device: str) -> TransformersModel:
    torch.set_num_threads(1)
    return TransformersModel(str(snapshot.folder), task="text-generation", dispatch=True, device_map=device)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(snapshot: Snapshot, device: str) -> AsyncIterator[ExecutorPool]:
    parts = [(device, 1 << 30)]
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=2, parts=parts)
    await executors.start(lambda _: None)
    yield executors
    await executors.stop()


def payload_of(model: TransformersModel, before: Callable[[Any], Any]) -> bytes:
    """A trace that calls ``before`` with the served model's own module, and saves the logits."""
    capture = Capture()
    with model.trace(PROMPT, backend=capture):
        said = before(model._module).save()  # noqa: F841 - read on the far side
        logits = model.output.logits.save()  # noqa: F841
    return capture.payload


async def ran(
    pool: ExecutorPool, model: TransformersModel, before: Callable[[Any], Any], user: str = "ada"
) -> dict[str, Any]:
    return await Job(pool, user=user).run(payload_of(model, before))


def nothing(_: Any) -> str:
    return "nothing"


@pytest.fixture(scope="module")
def logits(model: TransformersModel) -> torch.Tensor:
    with model.trace(PROMPT):
        logits = model.output.logits.save()
    return logits.cpu()


async def test_a_job_computes_what_it_computes_locally(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    for _ in range(2):
        assert torch.equal((await ran(pool, model, nothing))["logits"], logits)
        await pool.judged()


async def test_an_executor_is_kept_for_its_user(pool: ExecutorPool, model: TransformersModel) -> None:
    def count(module: Any) -> int:
        import builtins

        return id(builtins) + id(module) + __import__("os").getpid()

    await ran(pool, model, nothing)
    await pool.judged()
    kept = [executor.jobs for executor in pool._kept if executor.user == "ada"]
    assert kept
    await ran(pool, model, count)
    await pool.judged()
    assert max(executor.jobs for executor in pool._kept if executor.user == "ada") > max(kept) or not pool._kept


async def test_an_adapter_is_beside_the_weights_for_the_job_that_asks_for_it(
    pool: ExecutorPool, snapshot: Snapshot, device: str, logits: torch.Tensor, model: TransformersModel
) -> None:
    files = str(snapshot.folder.parent / TINY_LORA_ID.replace("/", "--"))
    adapted = TransformersModel(
        str(snapshot.folder), task="text-generation", dispatch=True, device_map=device, peft=files
    )
    with adapted.trace(PROMPT):
        wanted = adapted.output.logits.save()
    assert not torch.equal(wanted.cpu(), logits)
    capture = Capture()
    with adapted.trace(PROMPT, backend=capture):
        hidden = adapted.transformer.h[1].attn.c_attn.lora_A.default.output.save()  # noqa: F841
        logits_of_it = adapted.output.logits.save()  # noqa: F841 - read on the far side
    got = await Job(pool).run(capture.payload, env={"peft": TINY_LORA_ID})
    assert torch.equal(got["logits_of_it"], wanted.cpu())
    assert got["hidden"].device.type == "cpu"  # results come to the host
    await pool.judged()
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)  # and the next job knows nothing of it


async def test_weights_of_four_bits_are_shared_too(snapshot: Snapshot, device: str) -> None:
    in_four_bits = {**four_bits("nf4"), "device_map": device}
    local = TransformersModel(
        str(snapshot.folder), task="text-generation", dispatch=True, dtype=torch.bfloat16, **in_four_bits
    )
    entry = ENTRY.model_copy(update={"dtype": "nf4"}).model_dump(mode="json")
    executors = ExecutorPool(entry, Path(snapshot.folder), LIMITS, ready=1, parts=[(device, 1 << 30)])
    await executors.start(lambda _: None)
    try:
        with local.trace(PROMPT):
            wanted = local.output.logits.save()
        for _ in range(2):
            assert torch.equal((await ran(executors, local, nothing))["logits"], wanted.cpu())
            await executors.judged()
    finally:
        await executors.stop()


def zeroed(module: Any) -> str:
    module.transformer.h[1].mlp.c_fc.weight.data.mul_(0)
    return "zeroed"


def set_in_part(module: Any) -> str:
    import torch

    with torch.no_grad():
        module.transformer.h[1].mlp.c_fc.weight[:, 3] = 7
    return "set"


def copied_over(module: Any) -> str:
    import torch

    with torch.no_grad():
        module.transformer.wte.weight.copy_(torch.ones_like(module.transformer.wte.weight))
    return str(bool((module.lm_head.weight == 1).all()))


def through_a_view(module: Any) -> str:
    rows = module.transformer.wte.weight.data[2:4]
    rows.add_(1)
    return str(float(rows.sum() - module.transformer.wte.weight.data[2:4].sum()))


def many_at_once(module: Any) -> str:
    import torch

    torch._foreach_mul_([p.data for p in module.transformer.h[0].parameters()], 0.5)
    return "many"


@pytest.mark.parametrize("write", [zeroed, set_in_part, copied_over, through_a_view, many_at_once])
async def test_a_write_to_a_weight_counts_in_its_own_job_alone(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor, write: Callable[[Any], Any]
) -> None:
    changed = await ran(pool, model, write)
    assert not torch.allclose(changed["logits"], logits)
    if write is copied_over:
        assert changed["said"] == "True"  # tied weights stay tied
    if write is through_a_view:
        assert changed["said"] == "0.0"
    await pool.judged()
    for user in ("ada", "grace"):
        assert torch.equal((await ran(pool, model, nothing, user))["logits"], logits)


async def test_gradients_flow_and_weights_stay(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def run() -> bytes:
        capture = Capture()
        with model.trace(PROMPT, backend=capture):
            hidden = model.transformer.h[1].output
            hidden.requires_grad_(True)
            with model.output.logits.sum().backward():
                grad = hidden.grad.save()  # noqa: F841
        return capture.payload

    saved = await Job(pool).run(run())
    assert saved["grad"].abs().sum() > 0
    await pool.judged()
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)


def _block_of(pool: ExecutorPool) -> mmap.mmap:
    """The keeper's own memory, opened from outside the jail as nobody in it can."""
    zygote = next(
        process
        for process in psutil.Process(pool._zygote.pid).children(recursive=True)
        if any("memfd:weights" in str(link.readlink()) for link in _links(process.pid))
    )
    link = next(link for link in _links(zygote.pid) if "memfd:weights" in str(link.readlink()))
    with link.open("r+b") as file:
        return mmap.mmap(file.fileno(), 0)


def _links(pid: int) -> list[Path]:
    return [link for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists() or link.is_symlink()]


@pytest.mark.skipif(GPU, reason="the host's memory can be reached from here, a GPU's cannot")
async def test_changed_weights_are_noticed_and_put_right(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def wait(_: Any) -> str:
        import time

        time.sleep(1.5)
        return "waited"

    slow = asyncio.create_task(ran(pool, model, wait, "grace"))
    await asyncio.sleep(0.7)
    block = _block_of(pool)
    block[4096:8192] = bytes(4096)
    await ran(pool, model, nothing)  # another user's job ends, so the weights are looked at
    with pytest.raises(WeightsChanged):
        await slow
    await pool.judged()
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)
    assert torch.equal((await ran(pool, model, nothing, "grace"))["logits"], logits)


@on_a_gpu
async def test_a_hostile_job_cannot_change_what_others_compute(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def unlock(module: Any) -> str:
        import ctypes

        import torch

        class Access(ctypes.Structure):
            _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_int), ("flags", ctypes.c_int))

        weight = module.transformer.wte.weight
        storage = weight.untyped_storage()
        driver = ctypes.CDLL("libcuda.so.1")
        access = Access(1, 0, 3)
        code = driver.cuMemSetAccess(
            ctypes.c_uint64(storage.data_ptr()),
            ctypes.c_size_t(storage.nbytes()),
            ctypes.byref(access),
            ctypes.c_size_t(1),
        )
        wrote = driver.cuMemsetD8_v2(ctypes.c_uint64(weight.data_ptr()), 0, ctypes.c_size_t(weight.nbytes))
        torch.cuda.synchronize()
        return f"{code} {wrote}"

    said = (await ran(pool, model, unlock, "mallory"))["said"]
    print("unlocked and wrote:", said)
    for user in ("ada", "mallory"):
        assert torch.equal((await ran(pool, model, nothing, user))["logits"], logits)


@on_a_gpu
async def test_a_write_past_torch_is_refused_and_said(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def kernel(module: Any) -> str:
        import torch

        weight = module.transformer.wte.weight
        with torch._C.DisableTorchFunction():
            weight.data.mul_(0)
            torch.cuda.synchronize()
        return "wrote"

    with pytest.raises(UserCodeFailed, match="read only") as caught:
        await ran(pool, model, kernel)
    print(caught.value)
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)


@on_a_gpu
async def test_too_much_device_memory_is_a_sentence(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def fill(_: Any) -> int:
        import torch

        return len([torch.empty(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(200)])

    with pytest.raises(UserCodeFailed, match="GPU memory"):
        await ran(pool, model, fill)
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)


@on_a_gpu
async def test_an_index_out_of_range_is_a_sentence(
    pool: ExecutorPool, model: TransformersModel, logits: torch.Tensor
) -> None:
    def index(module: Any) -> Any:
        import torch

        return module.transformer.wte.weight[torch.tensor([1 << 20], device="cuda")].sum().item()

    with pytest.raises(UserCodeFailed, match="GPU refused"):
        await ran(pool, model, index)
    assert torch.equal((await ran(pool, model, nothing))["logits"], logits)


def own_proc(_: Any) -> list[str]:
    return sorted(entry.name for entry in Path("/proc").iterdir())


def network(_: Any) -> str:
    import socket

    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET, socket.AF_VSOCK):
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
        except OSError:
            continue
        return f"family {family}"
    return "none"


def host_memory(_: Any) -> str:
    kept = []
    try:
        while len(kept) < 64:
            kept.append(torch.empty(1 << 28, dtype=torch.uint8))  # taken, not written to: it is counted all the same
    except RuntimeError:
        return f"{len(kept) / 4:.1f} GB"
    return "all"


async def test_walls_hold_beside_a_device(pool: ExecutorPool, model: TransformersModel) -> None:
    seen = (await ran(pool, model, own_proc))["said"]
    assert [name for name in seen if name.isdigit()] in ([], ["1"])
    assert (await ran(pool, model, network))["said"] == "none"
    assert (await ran(pool, model, host_memory))["said"] != "all"
