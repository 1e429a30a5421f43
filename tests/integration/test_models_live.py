"""Models that come and go while the workbench runs, with memory for two of them and for one more that waits."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from edif_backend.jobs import open_jobs
from edif_protocol.mirror_ticket import endpoint
from edif_protocol.wire import State

FIRST, SECOND, THIRD = "edif/tiny-gpt2", "house/second", "house/third"


@pytest.fixture(scope="module")
def running(new_installation: Callable[[str], Any]) -> Any:
    made = new_installation("live-models")
    made.installation.config_file.write_text(
        "[backend]\nslots = 1\nmodel_memory_bytes = 1_300_000_000\nwarm_memory_bytes = 700_000_000\nmodel_turn_s = 3\n"
    )
    made.up()
    for id in (SECOND, THIRD):
        added = made.edif("models", "add", id, "--source", "tiny", "--title", "Another random GPT-2")
        assert added.returncode == 0, added.stderr
    for id in (SECOND, THIRD):
        wait_for_files(made, id)
    return made


def wait_for_files(running: Any, id: str) -> None:
    """Return when the mirror has the model's files, which are made as soon as it is added, and that is noted."""
    mirror = endpoint(running.installation, ["lab"], time.time() + 600)
    address = f"{mirror}/{id}/resolve/main/config.json"
    for _ in range(240):
        if httpx.head(address).status_code == 200 and states(running)[id] == "NOT_STARTED":
            return
        time.sleep(0.5)
    raise AssertionError(f"{id} was not made ready: {running.edif('models').stdout}")


def states(running: Any) -> dict[str, str]:
    return {model["id"]: model["state"] for model in running.json("models")}


def width(running: Any, model: str, mirror: str = "") -> str:
    """The width of the stream of ``model``, by a trace of an unmodified client; it may have another mirror."""
    chosen = f"import os; os.environ['HF_ENDPOINT'] = {mirror!r}\n" if mirror else ""
    done = running.run_client(
        f"{chosen}from nnsight import TransformersModel\n"
        f"model = TransformersModel({model!r}, task='text-generation')\n"
        "with model.trace('Hello', remote=True):\n"
        "    kept = model.transformer.h[0].output.save()\n"
        "print('width', kept.shape[-1])"
    )
    return str(done.stdout + done.stderr)


def test_an_added_model_is_served_without_a_restart_and_the_least_used_goes_for_it(running: Any) -> None:
    assert states(running) == {FIRST: "RUNNING", SECOND: "NOT_STARTED", THIRD: "NOT_STARTED"}
    assert "width 128" in width(running, SECOND)
    assert states(running) == {FIRST: "RUNNING", SECOND: "RUNNING", THIRD: "NOT_STARTED"}
    assert "width 128" in width(running, THIRD)
    assert states(running) == {FIRST: "RUNNING", SECOND: "NOT_STARTED", THIRD: "RUNNING"}
    there = replicas(running)
    assert len(there) == 3, "two are loaded, one waits in memory"
    assert "width 128" in width(running, SECOND)
    assert states(running) == {FIRST: "RUNNING", SECOND: "RUNNING", THIRD: "NOT_STARTED"}
    assert replicas(running) == there, "it came back, and was not loaded"


def replicas(running: Any) -> set[int]:
    return {member["pid"] for member in running.json("pids") if member["role"] == "replica"}


FLOOD = f"""
import time
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
models = {{id: TransformersModel(id, task="text-generation") for id in ({SECOND!r}, {THIRD!r})}}

def send(key, id):
    CONFIG.API.APIKEY = key
    model = models[id]
    with model.trace("Hello", remote=True, blocking=False) as tracer:
        import time
        time.sleep(0.5)
        kept = model.transformer.h[0].output.save()
    return tracer.backend

jobs = [send(FLOODING, {SECOND!r}) for _ in range({{count}})] + [send(LIGHT, {THIRD!r}) for _ in range(2)]
while not all(job() is not None for job in jobs):
    time.sleep(0.1)
print("DONE")
"""


def test_two_models_that_do_not_fit_together_take_turns(running: Any) -> None:
    count = 24
    keys = f"FLOODING, LIGHT = {running.key('flood')!r}, {running.key('light')!r}\n"
    done = running.run_client(keys + FLOOD.replace("{count}", str(count)), timeout_s=200)
    assert "DONE" in done.stdout, done.stderr
    table = open_jobs(running.installation.jobs_database)
    flood = {job.id for job in table.newest("flood", limit=count)}
    light = {job.id for job in table.newest("light", limit=2)}
    events = (event for event in table.events_after(0, limit=1_000_000) if event.kind == State.DISPATCHED)
    starts = [event.job for event in events if event.job in flood | light]
    table.close()
    assert len(starts) == count + 2, "each ran once"
    last = max(starts.index(job) for job in light)
    assert last < count, "the flood is not waited for"
    changes = sum((one in flood) is not (other in flood) for one, other in itertools.pairwise(starts))
    assert changes <= 2, "and the flood's model is not thrown out job by job"


def test_a_model_is_deployed_and_evicted_by_command(running: Any) -> None:
    deployed = running.edif("models", "deploy", SECOND)
    assert deployed.returncode == 0, deployed.stderr
    assert states(running)[SECOND] == "RUNNING"
    evicted = running.edif("models", "evict", SECOND)
    assert evicted.returncode == 0, evicted.stderr
    assert states(running)[SECOND] == "NOT_STARTED"


def test_a_model_whose_process_is_killed_while_it_loads_is_loaded_again(running: Any) -> None:
    before = zygotes(running)
    with ThreadPoolExecutor() as beside:
        answer = beside.submit(width, running, SECOND)
        while not (new := zygotes(running) - before):
            assert not answer.done(), answer.result()
        for pid in new:
            with contextlib.suppress(ProcessLookupError):  # what stood above it took it along
                os.kill(pid, signal.SIGKILL)
        assert "width 128" in answer.result(), "a job that waited for it was lost"
    assert running.edif("models", "evict", SECOND).returncode == 0


def zygotes(running: Any) -> set[int]:
    return {member["pid"] for member in running.json("pids") if member["role"] == "zygote"}


def test_a_pinned_model_stays_until_it_is_unpinned(running: Any) -> None:
    refused = running.edif("models", "evict", FIRST)
    assert refused.returncode == 1
    assert f"edif models unpin {FIRST}" in refused.stderr
    assert running.edif("models", "unpin", FIRST).returncode == 0
    assert running.edif("models", "evict", FIRST).returncode == 0
    assert states(running)[FIRST] == "NOT_STARTED"
    assert running.edif("models", "pin", FIRST).returncode == 0
    assert running.edif("models", "deploy", FIRST).returncode == 0


def test_a_model_for_a_group_is_refused_to_others_and_not_listed(running: Any) -> None:
    path = running.installation.models_file
    whole = path.read_text()
    path.write_text(f'{whole}\n[models."house/theirs"]\ntitle = "t"\nsource = "tiny"\ngroups = ["lab"]\n')
    try:
        wait_for_files(running, "house/theirs")
        assert "is not served here" in width(running, "house/theirs"), "unknown to who has no ticket"
        members = endpoint(running.installation, ["lab"], time.time() + 600)  # a member's, which somebody else has
        said = width(running, "house/theirs", members)
        assert "house/theirs may be used by members of lab only, and ada is in none of these groups" in said
        listed = httpx.get(f"{running.installation.url('gateway')}/status").json()["deployments"]
        assert "house/theirs" not in listed
        assert FIRST in listed
        assert "house/theirs" in states(running), "the operator sees it"
    finally:
        path.write_text(whole)


def test_a_broken_file_is_told_and_the_models_go_on(running: Any) -> None:
    path = running.installation.models_file
    whole = path.read_text()
    path.write_text(whole + "\n[models.")
    listed = running.edif("models")
    assert "is not valid TOML" in listed.stderr
    assert "The models of the last valid file are served." in listed.stderr
    assert "width 128" in width(running, FIRST)
    path.write_text(whole)
    assert running.edif("models").stderr == ""
