"""One user's flood does not keep another from a turn."""

from __future__ import annotations

import json

from tests.conftest import Workbench

FLOOD = """
import json, time
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def send(key):
    CONFIG.API.APIKEY = key
    with model.trace("The Eiffel Tower", remote=True, blocking=False) as tracer:
        import time
        time.sleep(0.4)
        logits = model.output.logits.save()
    return tracer.backend

flood = [send(FLOODING) for _ in range(24)]
light = send(LIGHT)
while light() is None:
    time.sleep(0.05)
before = sum(job() is not None for job in flood)
print("TOLD", json.dumps(before))
"""


def test_a_light_user_runs_long_before_a_flood_has_passed(workbench: Workbench) -> None:
    keys = f"FLOODING, LIGHT = {workbench.key('flood')!r}, {workbench.key('light')!r}\n"
    done = workbench.run_client(keys + FLOOD, timeout_s=240)
    told = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert told, done.stderr
    # In order of arrival all 24 would have come first; a turn comes after what runs and one job of the other's.
    assert json.loads(told[0].removeprefix("TOLD ")) <= 12
