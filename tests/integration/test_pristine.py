"""Every job starts pristine, also the next one of the same user, whose executor may have been kept.

For each kind of change: a job makes it, the same user's next job must not see it.  Needs bubblewrap; no Ray.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import nnsight
import pytest
import pytest_asyncio
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from tests.memory_keeper import MemoryKeeper

from edif import payload
from edif_backend.executors.pool import ExecutorPool, Limits, Work
from edif_backend.models.catalogue import TINY_ID, ModelEntry
from edif_backend.models.snapshots import Snapshot, prepare

nnsight.register(sys.modules[__name__])  # functions below travel by value

PROMPT = "The Eiffel Tower is in the city of"
ENTRY = ModelEntry(id=TINY_ID, title="tiny", source="tiny", repo=TINY_ID)
LIMITS = Limits(result_bytes=4 << 20, memory_bytes=2 << 30, tmp_bytes=16 << 20, threads=1)

pytestmark = pytest.mark.asyncio(loop_scope="module")

#: What a job may change, and how the next one would see it.  Both run in the jail.
KINDS: dict[str, tuple[str, str]] = {
    "weights in place": ("m.lm_head.weight.data.add_(1)", "m.lm_head.weight.sum().item()"),
    "weights through numpy": (
        "m.transformer.wte.weight.detach().numpy().__setitem__(0, 7.0)",
        "m.transformer.wte.weight[0].sum().item()",
    ),
    "parameter replaced": (
        "setattr(m.lm_head, 'weight', torch.nn.Parameter(m.lm_head.weight * 0))",
        "m.lm_head.weight.sum().item()",
    ),
    "gradient left": (
        "setattr(m.lm_head.weight, 'grad', torch.ones_like(m.lm_head.weight))",
        "m.lm_head.weight.grad is None",
    ),
    "requires_grad": ("m.lm_head.weight.requires_grad_(True)", "m.lm_head.weight.requires_grad"),
    "buffer": ("m.register_buffer('mine', torch.ones(1))", "[*dict(m.named_buffers())]"),
    "submodule": ("setattr(m.transformer.h[1], 'mlp', torch.nn.Identity())", "type(m.transformer.h[1].mlp).__name__"),
    "hook": ("m.transformer.register_forward_hook(lambda *_: None)", "len(m.transformer._forward_hooks)"),
    "training mode": ("m.train()", "m.training"),
    "config": ("setattr(m.config, 'n_layer', 99)", "m.config.n_layer"),
    "nested config": ("m.config.__dict__.update(mine=[1])", "'mine' in m.config.__dict__"),
    "default dtype": ("torch.set_default_dtype(torch.float64)", "str(torch.get_default_dtype())"),
    "default device": ("torch.set_default_device('meta')", "str(torch.empty(1).device)"),
    "grad mode": ("torch.set_grad_enabled(not torch.is_grad_enabled())", "torch.is_grad_enabled()"),
    "anomaly mode": ("torch.autograd.set_detect_anomaly(True)", "torch.is_anomaly_enabled()"),
    "deterministic": ("torch.use_deterministic_algorithms(True)", "torch.are_deterministic_algorithms_enabled()"),
    "backend flag": ("setattr(torch.backends.mkldnn, 'enabled', False)", "torch.backends.mkldnn.enabled"),
    "matmul precision": ("torch.set_float32_matmul_precision('medium')", "torch.get_float32_matmul_precision()"),
    "denormals": ("torch.set_flush_denormal(True)", "(torch.tensor([1e-310], dtype=torch.float64) * 1).item()"),
    "threads": ("torch.set_num_threads(2)", "torch.get_num_threads()"),
    "torch function": ("setattr(torch, 'softmax', None)", "torch.softmax is None"),
    "method of a class": ("setattr(torch.nn.Linear, 'forward', None)", "torch.nn.Linear.forward is None"),
    "defaults of a function": (
        "setattr(torch.nn.functional.softmax, '__defaults__', (1, 2, 3))",
        "torch.nn.functional.softmax.__defaults__",
    ),
    "note on a function": (
        "setattr(torch.nn.functional.softmax, 'mine', 1)",
        "hasattr(torch.nn.functional.softmax, 'mine')",
    ),
    "nnsight": ("setattr(__import__('nnsight').CONFIG.APP, 'DEBUG', 'mine')", "__import__('nnsight').CONFIG.APP.DEBUG"),
    "transformers": (
        "__import__('transformers').activations.ACT2FN.update(mine=1)",
        "'mine' in __import__('transformers').activations.ACT2FN",
    ),
    "builtins": ("setattr(__import__('builtins'), 'mine', 1)", "hasattr(__import__('builtins'), 'mine')"),
    "module in sys.modules": ("sys.modules.update(mine=1)", "'mine' in sys.modules"),
    "first import": ("__import__('wave')", "'wave' in sys.modules"),
    "sys.path": ("sys.path.append('/mine')", "sys.path"),
    "environment": ("os.environ.update(MINE='1')", "os.environ.get('MINE')"),
    "native environment": ("os.putenv('TZ', 'Asia/Tokyo') or time.tzset()", "time.tzname"),
    "working folder": ("os.chdir('/usr')", "os.getcwd()"),
    "file in /tmp": ("open('/tmp/mine', 'w').close()", "os.listdir('/tmp')"),
    "file in /dev/shm": ("open('/dev/shm/mine', 'w').close()", "os.listdir('/dev/shm')"),
    "open descriptor": ("os.dup(1)", "[n for n in range(99) if opened(n)]"),
    "notes of written pages ended": (
        "[os.close(n) for n in range(99) if opened(n) and not os.fstat(n).st_mode >> 12]",
        "[n for n in range(99) if opened(n)]",
    ),
    "umask": ("os.umask(0o777)", "os.umask(0o22)"),
    "limit": (
        "resource.setrlimit(resource.RLIMIT_CPU, (999, 999))",
        "resource.getrlimit(resource.RLIMIT_CPU)[0]",
    ),
    "signal handler": ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "str(signal.getsignal(signal.SIGUSR1))"),
    "timer": ("signal.setitimer(signal.ITIMER_REAL, 1000)", "signal.getitimer(signal.ITIMER_REAL)[0] > 0"),
    "warnings filter": ("warnings.simplefilter('error')", "warnings.filters[0][0]"),
    "log level": ("logging.getLogger().setLevel(1)", "logging.getLogger().level"),
    "random state": ("random.seed(0)", "random.random() == 0.8444218515250481"),
    "torch random state": ("torch.manual_seed(0)", "torch.rand(1).item() == 0.49625658988952637"),
    "numpy random state": ("numpy.random.seed(0)", "numpy.random.rand() == 0.5488135039273248"),
    "numpy errors": ("numpy.seterr(all='raise')", "numpy.geterr()['divide']"),
    "decimal": ("setattr(decimal.getcontext(), 'prec', 3)", "decimal.getcontext().prec"),
    "context variable": (
        "contextvars.ContextVar('mine').set(1)",
        "'mine' in {v.name for v in contextvars.copy_context()}",
    ),
    "collector": ("gc.disable()", "gc.isenabled()"),
    "recursion limit": ("sys.setrecursionlimit(5000)", "sys.getrecursionlimit()"),
    "trace function": ("sys.setprofile(lambda *_: None)", "sys.getprofile() is None"),
    "background thread": (
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "threading.active_count()",
    ),
    "abstract class": (
        "__import__('collections.abc').abc.Sized.register(int)",
        "issubclass(int, __import__('collections.abc').abc.Sized)",
    ),
    "native memory": ("ctypes.memset(ctypes.create_string_buffer(9), 1, 9)", "0"),
    "attribute of an envoy": ("setattr(e.transformer, 'mine', 1)", "'mine' in e.transformer.__dict__"),
    "attribute of an envoy below": ("setattr(e.transformer.wte, 'mine', 1)", "'mine' in e.transformer.wte.__dict__"),
    "edit of an envoy": ("e.transformer.h[0]._edits.append(1)", "e.transformer.h[0]._edits"),
    "children of an envoy": ("e.transformer._child_map.pop('wpe')", "[*e.transformer._child_map]"),
    "alias of an envoy": ("e.transformer.base_model", "e.transformer._aliases"),
    "parent of an envoy": ("setattr(e.transformer, '_parent', None)", "e.transformer.parent is e"),
}
NAMES = "contextvars ctypes decimal gc logging numpy os random resource signal sys threading time torch warnings"


def evaluate(expression: str, model: Any, envoy: Any) -> Any:
    """What an expression gives in the jail, as text."""

    def opened(number: int) -> bool:
        try:
            os.fstat(number)
        except OSError:
            return False
        return True

    names = {name: importlib.import_module(name) for name in NAMES.split()}
    return repr(eval(expression, {**names, "m": model, "e": envoy, "opened": opened}))  # noqa: S307 - from the table above


class Sink:
    """Takes a result."""

    def __init__(self) -> None:
        self.data = bytearray()

    async def write(self, data: bytes) -> None:
        self.data += data


class Capture:
    """A backend of nnsight that keeps the payload instead of sending it.

    Args:
        named: the model whose envoys are named in it, which are then the executor's own.
    """

    def __init__(self, named: TransformersModel | None = None) -> None:
        self._named = named
        self.payload = b""

    def __call__(self, tracer: Any) -> None:
        if self._named:
            self.payload = payload.serialize(tracer, self._named, compress=False)
        else:
            self.payload = RequestModel.serialize(tracer, compress=False)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return prepare(ENTRY, tmp_path_factory.mktemp("models"), lambda _: None)


@pytest.fixture(scope="module")
def model(snapshot: Snapshot) -> TransformersModel:
    return TransformersModel(str(snapshot.folder), task="text-generation", dispatch=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(snapshot: Snapshot) -> AsyncIterator[ExecutorPool]:
    executors = ExecutorPool(ENTRY.model_dump(mode="json"), Path(snapshot.folder), LIMITS, ready=1)
    await executors.start(lambda _: None)
    yield executors
    await executors.stop()


async def send(pool: ExecutorPool, sent: bytes, user: str) -> dict[str, Any]:
    """What one job of ``user`` saves, once its executor has been judged."""
    sink = Sink()
    await pool.run(
        Work(
            user=user,
            compress=False,
            env={},
            payload=sent,
            sink=sink,
            keeper=MemoryKeeper(),
            time_limit_s=20,
        )
    )
    await pool.judged()
    saved: dict[str, Any] = torch.load(io.BytesIO(sink.data), weights_only=False)
    return saved


async def run(
    pool: ExecutorPool, model: TransformersModel, expression: str, user: str, written_out: bool = False
) -> str:
    """What ``expression`` gives as a job of ``user``, sent as eDIF's client sends it, or (written out) as nnsight's."""
    capture = Capture(None if written_out else model)
    with model.trace(PROMPT, backend=capture):
        hidden = model.lm_head.input.save()  # noqa: F841 - a forward, as in any trace
        answer = evaluate(expression, model._module, model).save()  # noqa: F841 - read on the far side
    return str((await send(pool, capture.payload, user))["answer"])


def traces_of(model: TransformersModel, named: TransformersModel | None) -> list[bytes]:
    """Payloads of traces that use nnsight in different ways, each saving ``answer``."""
    captures = [Capture(named) for _ in range(6)]
    with model.trace(PROMPT, backend=captures[0]):
        answer = model.transformer.h[1].output.save()
    with model.trace(PROMPT, backend=captures[1]):
        model.transformer.h[1].output = model.transformer.h[1].output * 2
        answer = model.output.logits.save()
    with model.trace(PROMPT, backend=captures[2]):
        model.transformer.h[1].skip(model.transformer.h[1].input)
        answer = model.output.logits.save()
    with model.trace(PROMPT, backend=captures[3]) as tracer:
        answer = model.transformer.h[0].output.save()
        tracer.stop()
    with model.trace(backend=captures[4]) as tracer:
        with tracer.invoke(PROMPT):
            model.transformer.h[1].output[0, -1] = 0
        with tracer.invoke(PROMPT):
            answer = model.output.logits.save()
    with model.trace(PROMPT, backend=captures[5]):
        embedded = model.transformer.wte.output
        embedded.requires_grad_(True)
        loss = model.output.logits.sum()
        with loss.backward():
            answer = embedded.grad.save()  # noqa: F841 - read on the far side
    return [capture.payload for capture in captures]


async def test_a_job_that_changes_nothing_leaves_its_executor_to_the_next(
    pool: ExecutorPool, model: TransformersModel
) -> None:
    for written_out in (False, True, True, False):
        await run(pool, model, "0", "ada", written_out)
    assert [executor.jobs for executor in pool._kept if executor.user == "ada"] == [4]


async def test_nobody_gets_another_users_executor(pool: ExecutorPool, model: TransformersModel) -> None:
    await run(pool, model, "0", "hopper")
    await run(pool, model, "0", "noether")
    assert [(executor.user, executor.jobs) for executor in pool._kept][-2:] == [("hopper", 1), ("noether", 1)]


async def test_traces_give_on_a_kept_executor_what_they_give_on_a_fresh_one(
    pool: ExecutorPool, model: TransformersModel
) -> None:
    traces = traces_of(model, None)
    fresh = [(await send(pool, trace, f"fresh {number}"))["answer"] for number, trace in enumerate(traces)]
    for again in (traces, traces_of(model, model), traces):
        for trace, expected in zip(again, fresh, strict=True):
            assert torch.equal((await send(pool, trace, "curie"))["answer"], expected)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_change_is_gone_for_the_users_next_job(pool: ExecutorPool, model: TransformersModel, kind: str) -> None:
    change, look = KINDS[kind]
    untouched = await run(pool, model, look, f"before {kind}")
    await run(pool, model, f"({change}, None)[1]", kind)
    assert await run(pool, model, look, kind) == untouched


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.sampled_from([*KINDS]), second=st.sampled_from([*KINDS]))
async def test_two_jobs_give_the_same_in_either_order(
    pool: ExecutorPool, model: TransformersModel, first: str, second: str
) -> None:
    jobs = {kind: f"({KINDS[kind][0]}, {KINDS[second if kind == first else first][1]})[1]" for kind in (first, second)}
    forwards = {kind: await run(pool, model, jobs[kind], f"{first}, {second}") for kind in (first, second)}
    backwards = {kind: await run(pool, model, jobs[kind], f"{second}, {first}") for kind in (second, first)}
    assert forwards == backwards
