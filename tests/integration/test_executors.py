"""User code on a real executor in the real jail: what it may, what it may not, and that it harms nobody else.

Needs bubblewrap; no Ray, no gateway.
"""

from __future__ import annotations

import os
import socket
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

from edif_backend.errors import ExecutorLost, ResultTooLarge, TimeLimitReached, UserCodeFailed
from edif_backend.executors.pool import ExecutorPool, Limits
from edif_backend.executors.walls import OOM_SCORE
from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.experience import experience_with
from edif_backend.models.snapshots import Snapshot, prepare

# What a client does for its own modules (nnsight sends those it finds by itself): functions below travel by value.
nnsight.register(sys.modules[__name__])

PROMPT = "The Eiffel Tower is in the city of"
ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID)
LIMITS = Limits(result_bytes=4 << 20, memory_bytes=2 << 30, tmp_bytes=16 << 20, threads=1)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return prepare(ENTRY, tmp_path_factory.mktemp("models"), lambda _: None)


@pytest.fixture(scope="module")
def model(snapshot: Snapshot) -> TransformersModel:
    """What a client has: the model's structure, and here its weights too, to compare with."""
    return TransformersModel(str(snapshot.folder), task="text-generation", dispatch=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(snapshot: Snapshot) -> AsyncIterator[ExecutorPool]:
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1)
    await executors.start(lambda _: None)
    yield executors
    await executors.stop()


def trace_of(model: TransformersModel, code: Callable[[], Any]) -> bytes:
    """The payload of a trace that calls ``code`` (shipped by value) and saves what it returns as ``answer``."""
    capture = Capture()
    with model.trace(PROMPT, backend=capture):
        answer = code().save()  # noqa: F841 - read on the far side
    return capture.payload


async def answer(pool: ExecutorPool, model: TransformersModel, code: Callable[[], Any]) -> Any:
    """What ``code`` returns when it runs in the jail."""
    return (await Job(pool).run(trace_of(model, code)))["answer"]


async def test_a_trace_gives_what_it_gives_locally_bit_for_bit(pool: ExecutorPool, model: TransformersModel) -> None:
    capture = Capture()
    with model.trace(PROMPT, backend=capture):
        hidden = model.transformer.h[2].output.save()
        logits = model.output.logits.save()
    job = Job(pool)
    saved = await job.run(capture.payload)
    torch.set_num_threads(1)
    with model.trace(PROMPT):
        hidden = model.transformer.h[2].output.save()
        logits = model.output.logits.save()
    assert job.started == 1
    assert torch.equal(saved["hidden"], hidden)
    assert torch.equal(saved["logits"], logits)


async def test_print_and_warnings_arrive_line_by_line(pool: ExecutorPool, model: TransformersModel) -> None:
    def speak() -> int:
        import sys
        import warnings

        print("one", "two\nthree")
        print("no newline", end="")
        warnings.warn("careful", stacklevel=1)
        print("to stderr", file=sys.stderr)
        return 1

    job = Job(pool)
    await job.run(trace_of(model, speak))
    assert job.said[:2] == ["one two", "three"]
    assert any("careful" in line for line in job.said)
    assert "to stderr" in job.said


async def test_a_flood_of_output_is_cut_and_said_to_be(pool: ExecutorPool, model: TransformersModel) -> None:
    def flood() -> int:
        for number in range(5000):
            print(number)
        return 1

    job = Job(pool)
    await job.run(trace_of(model, flood))
    assert len(job.said) == 2001
    assert "left out" in job.said[-1]


async def test_an_error_shows_the_users_own_line(pool: ExecutorPool, model: TransformersModel) -> None:
    def divide() -> float:
        numerator = 1
        return numerator / 0

    with pytest.raises(UserCodeFailed) as caught:
        await answer(pool, model, divide)
    said = str(caught.value)
    assert "return numerator / 0" in said
    assert said.endswith("ZeroDivisionError: division by zero")
    assert "edif_backend" not in said
    assert "site-packages" not in said


async def test_exit_ends_the_job_with_its_status(pool: ExecutorPool, model: TransformersModel) -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(UserCodeFailed, match=r"SystemExit\(3\)"):
        await answer(pool, model, leave)


async def test_a_payload_that_cannot_be_rebuilt_says_what_to_do(pool: ExecutorPool) -> None:
    missing = b"\x80\x04\x95\x18\x00\x00\x00\x00\x00\x00\x00\x8c\x0bnot_on_here\x94\x8c\x04name\x94\x93\x94."
    with pytest.raises(UserCodeFailed, match=r"nnsight\.register\('not_on_here'\)"):
        await Job(pool).run(missing, compress=False)
    with pytest.raises(UserCodeFailed, match="could not rebuild your trace"):
        await Job(pool).run(b"\x80\x04garbage.", compress=False)


def crash() -> None:
    import ctypes

    ctypes.string_at(0)


def loop() -> None:
    while True:
        pass


def loop_deaf() -> None:
    import signal

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        try:
            while True:
                pass
        except BaseException:  # noqa: BLE001, S112 - swallowing everything is what is tried
            continue


def take_memory() -> int:
    import torch as inner

    return len([inner.empty(64 << 20) for _ in range(100)])  # asked for is enough, and quick on any machine


def fork_bomb() -> None:
    import os
    import time

    made = 0
    while True:
        if made >= 200 or os.fork() == 0:
            time.sleep(600)
        made += 1


def save_too_much() -> Any:
    import torch as inner

    return inner.rand(2 << 20)


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        (crash, ExecutorLost, "ended without an answer"),
        (loop, TimeLimitReached, "longer than the 5 s"),
        (loop_deaf, TimeLimitReached, "longer than the 5 s"),
        (take_memory, UserCodeFailed, "more memory than one job may take"),
        (fork_bomb, UserCodeFailed, "Operation not permitted"),
        (save_too_much, ResultTooLarge, "Save less"),
    ],
)
async def test_what_kills_one_executor_harms_nobody_else(
    pool: ExecutorPool, model: TransformersModel, code: Callable[[], Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await answer(pool, model, code)
    assert await answer(pool, model, lambda: 42) == 42


async def test_values_are_kept_and_used_through_the_jail(pool: ExecutorPool, model: TransformersModel) -> None:
    def keep() -> int:
        import edif

        edif.keep(torch.arange(4_000_000)[-3:], "end")
        edif.keep(torch.arange(2_000_000), "large")
        return 1

    def use() -> list[str]:
        import edif

        told = [str(edif.kept("end").tolist()), str(int(edif.kept("large").sum()))]
        for attempt in (lambda: edif.kept("none"), lambda: edif.keep(torch.zeros(1 << 24), "vast")):
            try:
                attempt()
            except edif.NotKept as error:
                told.append(str(error))
        return told

    job = Job(pool)
    await job.run(trace_of(model, keep))
    assert sorted(job.keeper.values) == ["end", "large"]
    assert len(job.keeper.values["end"]) < 3000  # the three numbers, not what they are a part of
    assert (await job.run(trace_of(model, use)))["answer"] == [
        "[3999997, 3999998, 3999999]",
        str(1_999_999 * 1_000_000),
        "Nothing is kept as 'none'. There is: end, large.",
        "There is no room for this value.",
    ]


async def test_a_job_that_would_not_fit_is_refused_with_the_number_before_it_runs(
    pool: ExecutorPool, model: TransformersModel
) -> None:
    capture = Capture()
    with model.trace(torch.zeros(400, 1000, dtype=torch.long), backend=capture):
        model.transformer.h[0].input.save()
        print("the forward pass has begun")
    job = Job(pool)
    with pytest.raises(
        UserCodeFailed, match=r"^The job was not run: 400 x 1000 tokens need about [5-8]\.\d\d GB of memory"
    ):
        await job.run(capture.payload)
    assert job.said == []
    capture = Capture()
    with model.generate(torch.zeros(900, 1000, dtype=torch.long), max_new_tokens=20, backend=capture):
        model.output.save()
    with pytest.raises(UserCodeFailed, match="900 x 1000 tokens and 20 generated ones each need about"):
        await Job(pool).run(capture.payload)
    assert await answer(pool, model, lambda: 42) == 42


async def test_what_a_load_has_shown_is_kept(pool: ExecutorPool, snapshot: Snapshot) -> None:
    profile = experience_with(ENTRY, Path(snapshot.folder)).profile
    assert profile is not None
    assert profile.attention == "sdpa"
    assert {4, 16, 64} <= {length for length, *_ in profile.forward}


async def test_every_job_starts_pristine(pool: ExecutorPool, model: TransformersModel) -> None:
    capture = Capture()
    with model.trace(PROMPT, backend=capture):
        logits = model.output.logits.save()  # noqa: F841 - read on the far side
    before = (await Job(pool).run(capture.payload))["logits"]

    spoil = Capture()
    with model.trace(PROMPT, backend=spoil):
        import torch as inner

        model._module.transformer.h[0].mlp.c_fc.weight.zero_()
        model._module.config.eos_token_id = 1
        model.tokenizer.pad_token = "x"
        inner.set_default_dtype(inner.float64)
        spoiled = model._module.transformer.h[0].mlp.c_fc.weight.abs().sum().save()  # noqa: F841 - read on the far side
    assert (await Job(pool).run(spoil.payload))["spoiled"] == 0

    assert torch.equal((await Job(pool).run(capture.payload))["logits"], before)
    assert await answer(pool, model, lambda: __import__("torch").get_default_dtype()) is torch.float32


async def test_nothing_of_the_machine_is_within_reach(
    pool: ExecutorPool, model: TransformersModel, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of another user")
    path = str(secret)
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def look() -> dict[str, Any]:
        import os
        import socket

        found: dict[str, Any] = {
            "environment": sorted(os.environ),
            "processes": os.listdir("/proc"),
            "pid": os.getpid(),
        }
        for name in (path, "/etc/shadow", "/etc/passwd", "/root/.bashrc", "/run", "/var"):
            found[name] = os.path.exists(name)
        try:
            found["network"] = socket.create_connection(("127.0.0.1", port)) is not None
        except PermissionError:
            found["network"] = False
        try:
            with open("/usr/made-by-a-job", "w"):
                found["writes /usr"] = True
        except OSError:
            found["writes /usr"] = False
        return found

    found = await answer(pool, model, look)
    with socket.create_connection(("127.0.0.1", port)):  # it is there for everybody else
        server.close()
    assert found.pop("processes") == []
    assert found.pop("pid") == 1
    told = "EDIF_ROLE HF_HUB_OFFLINE HOME LANG LOGNAME OMP_NUM_THREADS PATH PWD PYTHONDONTWRITEBYTECODE"
    no_gpu = "CUDA_VISIBLE_DEVICES PYTORCH_NVML_BASED_CUDA_CHECK"
    libraries = (
        "PYTHONPATH TOKENIZERS_PARALLELISM LC_CTYPE KMP_INIT_AT_FORK KMP_DUPLICATE_LIB_OK TORCHINDUCTOR_CACHE_DIR"
    )
    assert set(found.pop("environment")) <= {*told.split(), *no_gpu.split(), *libraries.split()}
    assert not any(found.values()), found


async def test_two_executors_at_once_do_not_meet(pool: ExecutorPool, model: TransformersModel) -> None:
    import asyncio

    def leave_a_trace() -> list[str]:
        import os
        import time

        with open(f"/tmp/{time.time_ns()}", "w") as file:
            file.write("mine")
        with open(f"/dev/shm/{time.time_ns()}", "w") as file:
            file.write("mine")
        time.sleep(0.5)
        return [name for name in (*os.listdir("/tmp"), *os.listdir("/dev/shm")) if name.isdigit()]

    first, second = await asyncio.gather(answer(pool, model, leave_a_trace), answer(pool, model, leave_a_trace))
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)


async def test_an_executor_that_died_idle_costs_no_job_its_start(pool: ExecutorPool, model: TransformersModel) -> None:
    assert await answer(pool, model, lambda: 1) == 1
    executor = await pool._fork()
    pool._ready.appendleft(executor)
    pool._zygote.kill(executor.pid)
    await executor.reader.read()  # to its end
    assert await answer(pool, model, lambda: 2) == 2


def oom_scores(pids: list[int]) -> list[int]:
    return [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in pids]


async def test_the_kernel_would_take_an_executor_first(pool: ExecutorPool) -> None:
    await pool.judged()
    inside = [process.pid for process in psutil.Process(pool._zygote.pid).children(recursive=True)]
    assert {*oom_scores(inside)} == {*oom_scores([os.getpid()]), OOM_SCORE}  # the zygote's, and the executors'


async def test_a_sequence_longer_than_the_operator_allows_is_refused_with_the_numbers(
    snapshot: Snapshot, model: TransformersModel
) -> None:
    entry = ENTRY.model_copy(update={"context_tokens": 16})
    executors = ExecutorPool(entry.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1)
    await executors.start(lambda _: None)

    async def width(prompt: str, **generating: int) -> int:
        capture = Capture()
        begin = model.generate if generating else model.trace
        with begin(prompt, backend=capture, **generating):
            hidden = model.transformer.h[0].output.save()  # noqa: F841 - read on the far side
        return int((await Job(executors).run(capture.payload))["hidden"].shape[-1])

    try:
        assert await width("a b c", max_new_tokens=4) == 128
        with pytest.raises(UserCodeFailed, match=r"sequence of \d+ tokens: this model takes at most 16 here"):
            await width("a b c d e f " * 9)
        with pytest.raises(UserCodeFailed, match=r"\(\d+ and 30 to generate\): this model takes at most 16 here"):
            await width("a b c", max_new_tokens=30)
    finally:
        await executors.stop()
