"""One user's flood does not keep another from a turn."""

from __future__ import annotations

from tests.conftest import Workbench

from edif_backend.jobs import open_jobs
from edif_protocol.wire import State

JOBS = 24
FLOOD = f"""
import time
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def send(key):
    CONFIG.API.APIKEY = key
    with model.trace("The Eiffel Tower", remote=True, blocking=False) as tracer:
        import time
        time.sleep(1.0)
        logits = model.output.logits.save()
    return tracer.backend

flood = [send(FLOODING) for _ in range({JOBS})]
light = send(LIGHT)
while light() is None:
    time.sleep(0.05)
print("DONE")
"""


def test_a_light_user_runs_long_before_a_flood_has_passed(workbench: Workbench) -> None:
    keys = f"FLOODING, LIGHT = {workbench.key('flood')!r}, {workbench.key('light')!r}\n"
    done = workbench.run_client(keys + FLOOD, timeout_s=240)
    assert "DONE" in done.stdout, done.stderr
    jobs = open_jobs(workbench.installation.jobs_database)
    flood = {job.id for job in jobs.newest("flood", limit=JOBS)}
    (light,) = (job.id for job in jobs.newest("light", limit=1))
    events = [event for event in jobs.events_after(0, limit=1_000_000) if event.job in {*flood, light}]
    jobs.close()
    of_light = {event.kind: event.id for event in events if event.job == light}
    starts = [event.id for event in events if event.job in flood and event.kind == State.DISPATCHED]
    came, ran = of_light[State.RECEIVED], of_light[State.DISPATCHED]
    # In order of arrival all that wait would come first; a turn comes after what runs and one job of the other's.
    waiting = JOBS - sum(start < came for start in starts)
    assert waiting >= 5, "the machine is too slow to send a flood"
    assert sum(came < start < ran for start in starts) <= 3
