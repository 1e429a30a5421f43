"""A trace of the eDIF client outlives the gateway: the job goes on, and its result comes when the gateway is back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import httpx
from tests.conftest import Workbench

SLOW_TRACE = """
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
from edif.remote import EdifBackend

model = TransformersModel("edif/tiny-gpt2", task="text-generation")
backend = EdifBackend(model.to_model_key(), env=model._remoteable_get_env())
for sleep in (8, 0):
    with model.trace("The Eiffel Tower is in the city of", backend=backend):
        import time
        print("started")
        time.sleep(sleep)
        logits = model.output.logits.save()
    print("RESULT", tuple(logits.shape), flush=True)
"""


def test_a_killed_gateway_costs_no_result(workbench: Workbench) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", SLOW_TRACE],
        env=workbench.environment("ada"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running = lambda: any(job["state"] == "RUNNING" for job in workbench.json("jobs"))  # noqa: E731 - asked again and again
    for _ in range(120):
        if running():
            break
        time.sleep(0.5)
    (gateway,) = [entry["pid"] for entry in workbench.json("pids") if entry["role"] == "gateway"]
    os.kill(gateway, signal.SIGKILL)
    said, complained = client.communicate(timeout=120)
    assert said.count("RESULT (1, ") == 2, complained
    assert httpx.get(f"{workbench.installation.url('gateway')}/ping").json() == "pong"
