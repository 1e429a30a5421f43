"""Unmodified nnsight, in a process of its own with nothing but three variables, against the whole fabric."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Workbench

SETUP = """
import json, torch, nnsight
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteError
nnsight.CONFIG.APP.REMOTE_LOGGING = False
demo = lambda: TransformersModel("edif/smollm2-135m-demo", task="text-generation")
tiny = lambda: TransformersModel("edif/tiny-gpt2", task="text-generation")
PROMPT = "The Eiffel Tower is in the city of"
def tell(**what): print("TOLD", json.dumps(what))
""".replace("nnsight.CONFIG", "from nnsight.schema.config import CONFIG; CONFIG")


def told(workbench: Workbench, script: str, user: str = "ada") -> dict[str, Any]:
    """Run a client script; gives what it tells."""
    done = workbench.run_client(SETUP + script, user)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, f"the client told nothing:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {name: value for line in lines for name, value in json.loads(line.removeprefix("TOLD ")).items()}


def test_the_demo_model_answers_paris_and_can_be_changed(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
model = demo()
with model.trace(PROMPT, remote=True):
    hidden = model.model.layers[10].output.save()
    logits = model.output.logits[0, -1].save()
tell(shape=list(hidden.shape), top=model.tokenizer.decode(logits.argmax()), p=float(logits.softmax(-1).max()),
     tokens=len(model.tokenizer(PROMPT)["input_ids"]), loaded=model.dispatched)
with model.trace(PROMPT, remote=True):
    model.model.layers[20].output[:] = 0
    changed = model.output.logits[0, -1].save()
tell(changed=model.tokenizer.decode(changed.argmax()))
with model.generate("The capital of Germany is", max_new_tokens=3, remote=True) as tracer:
    ids = tracer.result.save()
tell(text=model.tokenizer.decode(ids[0]))
""",
    )
    assert answer["top"] == " Paris"
    assert answer["p"] == pytest.approx(0.656, abs=0.002)  # METHODS: seen in float32
    assert answer["shape"] == [1, answer["tokens"], 576]
    assert answer["changed"] != " Paris"
    assert answer["text"].startswith("The capital of Germany is Berlin")
    assert answer["loaded"] is False


def test_print_inside_a_trace_arrives(workbench: Workbench) -> None:
    done = workbench.run_client(
        SETUP
        + """
CONFIG.APP.REMOTE_LOGGING = True
model = tiny()
with model.trace(PROMPT, remote=True):
    print("seen on the server:", tuple(model.transformer.h[0].output.shape))
    logits = model.output.logits.save()
"""
    )
    assert "seen on the server: (1, " in done.stdout, done.stdout + done.stderr


def test_sessions_invokes_gradients_and_iteration_work(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
model = tiny()
with model.session(remote=True):
    with model.trace(PROMPT):
        first = model.transformer.h[1].output
    with model.trace("Another prompt"):
        second = model.transformer.h[1].output
    total = (first.sum() + second.sum()).save()
tell(session=bool(torch.isfinite(total)))
with model.trace(remote=True) as tracer:
    with tracer.invoke("One prompt"):
        a = model.output.logits[:, -1].save()
    with tracer.invoke("Another, longer prompt"):
        b = model.output.logits[:, -1].save()
tell(invokes=[list(a.shape), list(b.shape)])
with model.trace(PROMPT, remote=True):
    hidden = model.transformer.h[1].output
    hidden.requires_grad_(True)
    loss = model.output.logits.sum()
    with loss.backward():
        gradient = hidden.grad.save()
tell(gradient=float(gradient.abs().sum()))
with model.generate(PROMPT, max_new_tokens=3, remote=True) as tracer:
    steps = list().save()
    for step in tracer.iter[:3]:
        steps.append(model.lm_head.output[0, -1].argmax())
tell(steps=len(steps))
""",
    )
    assert answer["session"] is True
    assert answer["invokes"][0] == answer["invokes"][1]
    assert answer["gradient"] > 0
    assert answer["steps"] == 3


def test_jobs_that_do_not_wait_are_asked_for_later(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
import time
model = tiny()
with model.trace(PROMPT, remote=True, blocking=False) as tracer:
    logits = model.output.logits.save()
backend = tracer.backend
for _ in range(300):
    result = backend()
    if result is not None:
        break
    time.sleep(0.1)
tell(status=backend.status.value, shape=list(result["logits"].shape), again=list(backend()["logits"].shape))
""",
    )
    assert answer["status"] == "COMPLETED"
    assert answer["shape"] == answer["again"]


def test_a_result_too_large_for_the_socket_is_downloaded(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
model = tiny()
with model.trace(PROMPT, remote=True):
    big = torch.arange(3_000_000).reshape(3, -1).save()
tell(sum=int(big.sum()), shape=list(big.shape))
""",
    )
    assert answer == {"sum": 3_000_000 * 2_999_999 // 2, "shape": [3, 1_000_000]}


def test_an_error_names_the_users_own_line(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
model = tiny()
try:
    with model.trace(PROMPT, remote=True):
        logits = model.output.logits.save()
        mistake = logits[99]
except RemoteError as error:
    tell(said=str(error))
""",
    )
    assert answer["said"].startswith("Traceback")
    assert "mistake = logits[99]" in answer["said"] or 'File "<string>"' in answer["said"]
    assert "IndexError" in answer["said"]


def test_a_client_learns_what_there_is_and_who_it_is(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
status = nnsight.status()
tell(up=status.status.value, demo="edif/smollm2-135m-demo" in status, who=nnsight.whoami()["email"],
     running=nnsight.is_model_running("edif/smollm2-135m-demo"), critical=nnsight.compare().critical_mismatches)
""",
    )
    assert answer == {"up": "UP", "demo": True, "who": "ada", "running": True, "critical": {}}


def test_a_wrong_key_says_where_to_get_one(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
CONFIG.API.APIKEY = "0" * 32
model = tiny()
try:
    with model.trace(PROMPT, remote=True):
        logits = model.output.logits.save()
except RemoteError as error:
    tell(said=str(error))
""",
    )
    assert "The API key is wrong, has ended or was revoked. Get one at http://" in answer["said"]
