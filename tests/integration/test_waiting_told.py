"""What a user sees while a job waits: its place, when it starts, and why it does not; with unmodified nnsight."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx
from tests.conftest import Workbench

FLOOD = """
import json, time
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def send(seconds):
    with model.trace("The Eiffel Tower", remote=True, blocking=False) as tracer:
        import time
        time.sleep(seconds)
        logits = model.output.logits.save()
    tracer.backend()  # a poll that tells nothing yet
    return tracer.backend.job_id

ids = [send(SECONDS) for _ in range(COUNT)]
print("TOLD", json.dumps(ids))
"""
#: As people see it: the status line of unmodified nnsight.
BLOCKING = """
from nnsight import TransformersModel
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
with model.trace("The Eiffel Tower", remote=True):
    logits = model.output.logits.save()
print("RESULT", tuple(logits.shape))
"""
#: A job of the same user that runs meanwhile.
BEFORE_IT = """
from nnsight import TransformersModel
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
with model.trace("The Eiffel Tower", remote=True, blocking=False):
    import time
    time.sleep(16)
    logits = model.output.logits.save()
"""


def flood(workbench: Workbench, user: str, count: int, seconds: float) -> list[str]:
    done = workbench.run_client(f"SECONDS, COUNT = {seconds}, {count}\n{FLOOD}", user)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")] or [done.stderr]
    return list(json.loads(line.removeprefix("TOLD ")))


def response(workbench: Workbench, user: str, id: str) -> dict[str, Any]:
    answer = httpx.get(
        f"{workbench.installation.url('gateway')}/response/{id}",
        headers={"ndif-api-key": workbench.key(user)},
        timeout=30,
    )
    assert answer.status_code == 200
    return dict(answer.json())


def until(found: Callable[[], Any], timeout_s: float = 60) -> Any:
    """What ``found`` gives as soon as it gives something."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.3)
    raise AssertionError("it did not come to that")


def test_waiting_jobs_have_a_place_that_comes_closer_and_a_blocking_client_shows_it(workbench: Workbench) -> None:
    last = flood(workbench, "patient", 10, 1.5)[-1]

    def place() -> int:
        return (response(workbench, "patient", last).get("meta") or {}).get("position") or 0

    first = until(place)
    assert until(lambda: 0 < place() < first)
    answer = response(workbench, "patient", last)
    if answer["status"] == "QUEUED":
        assert "before this one; it starts in" in answer["description"] or "Next to start, " in answer["description"]
    usage = httpx.get(
        f"{workbench.installation.url('gateway')}/usage", headers={"ndif-api-key": workbench.key("patient")}, timeout=30
    ).json()
    assert [job["id"] for job in usage["waiting"]][-1:] == [last]
    queue = httpx.get(f"{workbench.installation.url('gateway')}/status", timeout=30).json()["queue"]["edif/tiny-gpt2"]
    assert queue["waiting"] >= 1
    assert queue["running"] >= 1
    assert queue["wait_s"] is not None


def test_a_job_behind_its_users_own_limit_says_so_in_the_clients_line(workbench: Workbench) -> None:
    assert workbench.edif("limits", "set", "--user", "single", "running_jobs=1").returncode == 0
    done = workbench.run_client(BEFORE_IT + BLOCKING, "single")
    assert "RESULT (1, " in done.stdout, done.stderr
    lines = [line for line in done.stdout.replace("\r", "\n").splitlines() if "QUEUED" in line]
    assert any("Next to start, in " in line for line in lines)
    assert any("1 job of yours runs, as many as may at once." in line for line in lines)
    texts = {line.split(") ", 1)[-1] for line in lines}
    assert len(texts) <= 5, texts  # it is calm


def test_without_a_dispatcher_the_gateway_says_so(workbench: Workbench) -> None:
    (dispatcher,) = [entry["pid"] for entry in workbench.json("pids") if entry["role"] == "dispatcher"]
    os.kill(dispatcher, signal.SIGSTOP)  # it lives, so that nobody starts another, and does nothing
    try:
        client = subprocess.Popen(
            [sys.executable, "-c", BLOCKING],
            env=workbench.environment("orphan"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        (id,) = until(lambda: [job["id"] for job in workbench.json("jobs") if job["user"] == "orphan"])
        assert until(lambda: "no sign of life" in response(workbench, "orphan", id)["description"])
        time.sleep(11)  # the websocket says it to whoever has heard nothing for ten seconds
    finally:
        os.kill(dispatcher, signal.SIGCONT)
    out, err = client.communicate(timeout=120)
    assert "RESULT (1, " in out, err
    assert "jobs are kept and run when it is back" in out
