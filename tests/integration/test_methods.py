"""Every method on the backend: one job each, bit for bit the numbers that it gives here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Workbench

#: Calls as a user writes them; the same are made on the backend and here.
METHODS = {
    "logit_lens": "edif.logit_lens(model, [CLEAN, SHORT], targets=[' Mary'], **how)",
    "tuned_lens": "edif.logit_lens(model, CLEAN, site='mlp', tuned={1: (torch.eye(WIDTH), torch.ones(WIDTH))}, **how)",
    "activation_patching": (
        "edif.activation_patching(model, [CLEAN, CLEAN], [CORRUPT, LONGER], ANSWER, sites=['residual', 'head', 'v'],"
        " direction='both', **how)"
    ),
    "pattern": "edif.activation_patching(model, CLEAN, CORRUPT, ANSWER, sites='pattern', **how)",
    "own_metric": "edif.activation_patching(model, CLEAN, CORRUPT, ANSWER, metric=largest, **how)",
    "patched_lens": (
        "edif.activation_patching(model, CLEAN, CORRUPT, ANSWER, sites='head', layers=[1], positions=[-1], **how)"
        ".patched_lens(2, 10, source=(1, 10, 3), head=0, model=model, **how)"
    ),
    "attribution_patching": "edif.attribution_patching(model, CLEAN, CORRUPT, ANSWER, sites=['head', 'mlp'], **how)",
    "causal_trace": "edif.causal_trace(model, CLEAN, 'Mary', kinds=['state', 'mlp', 'state_no_mlp'], samples=3, **how)",
    "path_patching": "edif.path_patching(model, CLEAN, CORRUPT, ANSWER, edif.Cell(3, -1, 'q', 1), **how)",
    "symmetric_trace": "edif.causal_trace(model, CLEAN, 'Mary', corrupt=SWAPPED, window=2, **how)",
    "attention": "edif.attention(model, [CLEAN, SHORT], norms=True, answer=ANSWER, **how)",
    "steer": (
        "edif.steer(model, [CLEAN, SHORT], [(CLEAN, CORRUPT)], answer=ANSWER, ablate=['here', 'everywhere'],"
        " controls=1, tokens=3, strengths=[-0.3, 0.3], **how)"
    ),
    "probe": (
        "edif.probe(model, PROBED, ['Mary', 'John'] * 4, folds=2, shuffles=2, "
        " answers={'Mary': ' Mary', 'John': ' John'}, strengths=[0, 0.3], effects_on=2, layers=[1, 3], **how)"
    ),
    "compare_models": "edif.compare_models(model, model, [CLEAN, SHORT], **how)",
}

SCRIPT = """
import contextlib, io, json, time, traceback
import numpy as np, torch
from nnsight import TransformersModel
import edif
from edif import beside
from edif.engine import sweeps
torch.set_num_threads(1)
CLEAN, CORRUPT = "When Mary and John went to the store, John gave", "When Mary and John went to the store, Mary gave"
SWAPPED = "When John and John went to the store, John gave"
PROBED = [f"They gave the {thing} to {name}" for thing in ("book", "car", "key", "letter") for name in ("Mary", "John")]
SHORT, LONGER = "The Eiffel Tower is in", "When Mary and John went to the city of Paris, Mary gave"
ANSWER = (" Mary", " John")

def largest(logits):
    return logits[:, :7].amax(-1)

remote = TransformersModel("edif/tiny-gpt2", task="text-generation")
with remote.trace(CLEAN, remote=True):
    implementation = str(remote._module.config._attn_implementation).save()
before = len(edif.jobs(200))
told = {"equal": {}, "failed": {}, "jobs": {}, "shown": {}, "attention": str(implementation)}
results, WIDTH = {}, remote._module.config.get_text_config().hidden_size
for name, call in METHODS.items():
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            results[name] = eval(call, {**globals(), "model": remote, "how": {}})
        except Exception as error:  # the others are tried all the same
            told["failed"][name] = "".join(traceback.format_exception(error))[-3000:]
    told["shown"][name] = shown.getvalue()
    now = len(edif.jobs(200))
    told["jobs"][name], before = now - before, now
local = TransformersModel(SNAPSHOT, task="text-generation", dispatch=True, attn_implementation=str(implementation))
local._module.eval().requires_grad_(False)
for name, call in METHODS.items():
    if name in told["failed"]:
        continue
    here = eval(call, {**globals(), "model": local, "how": {"progress": False}})
    told["equal"][name] = here.data.equals(results[name].data)
    if not told["equal"][name]:
        told.setdefault("apart", {})[name] = [
            (str(array), float(abs(here.data[array] - results[name].data[array]).max()))
            for array in here.data.data_vars if here.data[array].dtype.kind == "f"
        ]

# interrupted at the second batch that is told of: what is known of the job is kept, and the job ends
sweeps.TELL_EVERY_S, take = 0.0, beside.Telling._take
def taking(self, places, values):
    take(self, places, values)
    if self.batches == 2:
        raise KeyboardInterrupt
beside.Telling._take = taking
try:
    edif.activation_patching(remote, [CLEAN] * 300, [CORRUPT] * 300, ANSWER, batch_tokens=64, progress=False)
except edif.MethodStopped as stopped:
    partial = stopped.partial
    told["stopped"] = {"said": str(stopped), "text": partial._repr_mimebundle_()["text/plain"]}
    values, whole = partial.data["residual"], results["activation_patching"].data["residual"]
    same = whole.sel(direction="denoise")[0].isel(position=slice(values.sizes["position"])).values
    known = ~np.isnan(values[0, 0].values)
    told["stopped"] |= {
        "known": int(known.sum()), "of": int(values.size),
        "equal": bool((values[0, 0].values[known] == same[known]).all()),
    }
last = edif.jobs(1)[0]
for _ in range(100):
    last = last if last.final else last.refresh()
    time.sleep(0 if last.final else 0.1)
told["stopped"]["state"] = last.state

# so are the pairs, layers and prompts of these, the last at the second prompt of its second job
told["parts"] = {}
for name, call, times, array in [
    ("attribution_patching", METHODS["attribution_patching"].replace("CLEAN, CORRUPT", "[CLEAN] * 9, [CORRUPT] * 9"),
     2, "head"),
    ("probe", METHODS["probe"], 1, "accuracy"),
    ("compare_models", METHODS["compare_models"].replace("SHORT]", "SHORT] * 3"), 8, "kl"),
]:
    taken = iter(range(1, 1000))
    def taking(self, places, values):
        take(self, places, values)
        if next(taken) == times:
            raise KeyboardInterrupt
    beside.Telling._take = taking
    try:
        eval(call, {**globals(), "model": remote, "how": {"progress": False}})
    except edif.MethodStopped as stopped:
        here, there = stopped.partial.data[array], results[name].data[array]
        axis = here.dims[0]
        told["parts"][name] = {
            "said": str(stopped), "text": stopped.partial._repr_mimebundle_()["text/plain"], "size": here.sizes[axis],
            "equal": all(
                np.array_equal(here[n], there[n % there.sizes[axis]], equal_nan=True) for n in range(here.sizes[axis])
            ),
        }

# cancelled from elsewhere, at its second batch
def cancelling(self, places, values):
    take(self, places, values)
    if self.batches == 2:
        edif.jobs(1)[0].cancel()
beside.Telling._take = cancelling
try:
    edif.activation_patching(remote, [CLEAN] * 300, [CORRUPT] * 300, ANSWER, batch_tokens=64, progress=False)
except edif.MethodStopped as stopped:
    told["cancelled"] = {"said": str(stopped), "complete": stopped.partial.complete}
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    snapshot = workbench.installation.models_dir / "edif--tiny-gpt2"
    script = tmp_path_factory.mktemp("methods") / "methods_client.py"  # functions need a file to be read from
    script.write_text(f"SNAPSHOT, METHODS = {str(snapshot)!r}, {METHODS!r}\n{SCRIPT}")
    run = f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = workbench.run_client(run, "methods", timeout_s=280)
    line = next((line for line in done.stdout.splitlines() if line.startswith("TOLD ")), None)
    assert line, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found: dict[str, Any] = json.loads(line.removeprefix("TOLD "))
    return found


@pytest.mark.timeout(400)
@pytest.mark.parametrize("method", METHODS)
def test_it_gives_bit_for_bit_what_it_gives_here(told: dict[str, Any], method: str) -> None:
    assert told["failed"].get(method, "") == ""
    assert told["equal"][method], told["apart"][method]


@pytest.mark.parametrize("method", METHODS)
def test_it_is_one_job_and_says_how_far_it_is(told: dict[str, Any], method: str) -> None:
    assert told["jobs"][method] == (2 if method in ("compare_models", "patched_lens") else 1)
    assert "100%" in told["shown"][method]
    assert "edif.sweep" not in told["shown"][method]


def test_what_was_interrupted_is_kept_and_marked_and_its_job_ends(told: dict[str, Any]) -> None:
    stopped = told["stopped"]
    assert "What it has is kept" in stopped["said"]
    assert "NOT COMPLETE: stopped after" in stopped["text"]
    assert 0 < stopped["known"] < stopped["of"]
    assert stopped["equal"]
    assert stopped["state"] == "CANCELLED"


@pytest.mark.parametrize(("method", "size"), [("attribution_patching", 2), ("probe", 1), ("compare_models", 2)])
def test_of_these_what_is_whole_is_kept(told: dict[str, Any], method: str, size: int) -> None:
    part = told["parts"][method]
    assert "What it has is kept" in part["said"]
    assert "NOT COMPLETE: stopped after" in part["text"]
    assert part["size"] == size  # pairs, layers, prompts
    assert part["equal"]


def test_what_was_cancelled_from_elsewhere_is_kept_and_says_by_whom(told: dict[str, Any]) -> None:
    assert "Cancelled by you. What it has is kept" in told["cancelled"]["said"]
    assert not told["cancelled"]["complete"]
