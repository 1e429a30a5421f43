"""A user's own jobs, over the whole way: listed, taken up again, cancelled; nobody else's are seen or touched."""

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
import pytest
from tests.conftest import Workbench

from edif_backend.jobs import open_jobs
from edif_backend.settings import BackendSettings

SETUP = """
import json, time, torch, edif
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from nnsight.intervention.backends.remote import RemoteError
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")

def send(seconds, words=""):
    with model.trace("A prompt", remote=True, blocking=False) as tracer:
        import time
        print(words)
        time.sleep(seconds)
        logits = model.output.logits.save()
        number = torch.arange(3).save()
    return tracer.backend

def until(state, job):
    deadline = time.monotonic() + 60
    while job.refresh().state != state and time.monotonic() < deadline:
        time.sleep(0.02)

def tell(**what): print("TOLD", json.dumps(what))
"""


def told(workbench: Workbench, script: str, user: str) -> dict[str, Any]:
    """Run a client script of ``user``; gives what it tells."""
    done = workbench.run_client(SETUP + script, user)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return {name: value for line in lines for name, value in json.loads(line.removeprefix("TOLD ")).items()}


def ask(workbench: Workbench, user: str, method: str, path: str) -> httpx.Response:
    return httpx.request(
        method,
        f"{workbench.installation.url('gateway')}{path}",
        headers={"ndif-api-key": workbench.key(user)},
        timeout=30,
    )


def first_job(workbench: Workbench, user: str) -> str:
    """Id of the first job of ``user``, when there is one."""
    table = open_jobs(workbench.installation.jobs_database)
    try:
        deadline = time.monotonic() + 150
        while not (found := table.newest(user)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found[0].id
    finally:
        table.close()


def state_within(workbench: Workbench, job: str, seconds: float, wanted: Callable[[str], bool]) -> str:
    """The state of a job as soon as it is wanted, or as it is in the end."""
    table = open_jobs(workbench.installation.jobs_database)
    try:
        deadline = time.monotonic() + seconds
        while True:
            found = table.job(job)
            assert found is not None
            if wanted(found.state) or time.monotonic() > deadline:
                return found.state
            time.sleep(0.02)
    finally:
        table.close()


@pytest.fixture(scope="module")
def sent(workbench: Workbench) -> dict[str, str]:
    """Two jobs whose client has gone: of ``resumer`` one that ends soon, and one that would not."""
    return told(workbench, "tell(long=send(300).job_id, short=send(1.5, 'first words').job_id)", "resumer")


def test_the_operator_cancels_any_job(workbench: Workbench, sent: dict[str, str]) -> None:
    done = workbench.edif("jobs", "cancel", sent["long"])
    assert done.returncode == 0, done.stderr
    assert f"The job {sent['long']} of resumer is cancelled." in done.stderr
    found = next(job for job in workbench.json("jobs", "--user", "resumer") if job["id"] == sent["long"])
    assert (found["state"], found["description"][:26]) == ("CANCELLED", "Cancelled by the operator;")
    unknown = workbench.edif("jobs", "cancel", "nothing")
    assert unknown.returncode == 1
    assert "There is no job nothing" in unknown.stderr


def test_a_job_is_taken_up_again_by_another_process(workbench: Workbench, sent: dict[str, str]) -> None:
    done = workbench.run_client(
        """
import edif
found = edif.jobs()
values = found[0].result()
print("TOLD", [found[0].id, sorted(values), values["number"].tolist(), str(found).count(found[0].id)])
print(found[0].refresh().state, "<th" in found._repr_html_())
""",
        "resumer",
    )
    assert f"TOLD ['{sent['short']}', ['logits', 'number'], [0, 1, 2], 1]" in done.stdout, done.stderr
    assert "first words" in done.stdout
    assert "COMPLETED True" in done.stdout


def test_a_running_job_is_cancelled_its_slot_freed_and_its_client_told(workbench: Workbench) -> None:
    script = """
slots = %d
running = [send(120) for _ in range(slots)]
job = edif.jobs()[0]
until("RUNNING", job)
waiting = send(0)  # no slot is left for it
cancelled = [job.cancel().state for job in edif.jobs(limit=slots, before=waiting.job_id)]
began = time.monotonic()
while waiting() is None:
    time.sleep(0.02)
try:
    running[0]()
except RemoteError as error:
    said = str(error)
tell(cancelled=cancelled, again=edif.jobs()[1].cancel().state, freed_s=time.monotonic() - began, said=said)
"""
    answer = told(workbench, script % BackendSettings().slots, "canceller")
    assert set(answer["cancelled"]) == {"CANCELLED"}
    assert answer["again"] == "CANCELLED"
    assert "Cancelled by you." in answer["said"]
    assert answer["freed_s"] < 60  # the jobs in its way would have taken two minutes


def test_a_failed_and_a_cancelled_job_say_so_when_they_are_taken_up(workbench: Workbench) -> None:
    answer = told(
        workbench,
        """
with model.trace("A prompt", remote=True, blocking=False):
    1 / 0
job = edif.jobs()[0]
try:
    job.result(show=False)
except edif.JobFailed as error:
    tell(failed=str(error))
send(60)
job = edif.jobs()[0].cancel()
try:
    job.result()
except edif.JobFailed as error:
    tell(cancelled=str(error))
try:
    edif.jobs(before="no such job")
except edif.BackendRefused as error:
    tell(unknown=str(error))
""",
        "unlucky",
    )
    assert answer["failed"].endswith("ZeroDivisionError: division by zero")
    assert answer["cancelled"] == "Cancelled by you."
    assert answer["unknown"] == "There is no job 'no such job' of yours; `edif.jobs()` lists those there are."


def test_an_interrupted_trace_cancels_its_job_and_a_stock_client_that_leaves_does_not(workbench: Workbench) -> None:
    script = SETUP + (
        "from nnsight.intervention.backends.remote import RemoteBackend\n"
        "from edif.remote import EdifBackend\n"
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background\n"
        "backend = {}(model.to_model_key(), env=model._remoteable_get_env())\n"
        "with model.trace('A prompt', backend=backend):\n"
        "    import time\n"
        "    time.sleep(12)\n"
        "    logits = model.output.logits.save()\n"
    )
    users = {"EdifBackend": f"interrupter-{os.getpid()}", "RemoteBackend": f"leaver-{os.getpid()}"}
    clients = {
        kind: subprocess.Popen(
            [sys.executable, "-c", script.format(kind)],
            env=workbench.environment(user),
            stderr=subprocess.PIPE,
            text=True,
        )
        for kind, user in users.items()
    }
    ends = {}
    for kind, client in clients.items():
        job = first_job(workbench, users[kind])
        state_within(workbench, job, 30, lambda state: state == "RUNNING")
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=60)
        assert "KeyboardInterrupt" in said
        ends[kind] = state_within(workbench, job, 60, lambda state: state in ("CANCELLED", "COMPLETED"))
    assert ends == {"EdifBackend": "CANCELLED", "RemoteBackend": "COMPLETED"}


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/events"), ("DELETE", "")])
def test_nobody_elses_job_is_seen_or_touched(
    workbench: Workbench, sent: dict[str, str], method: str, path: str
) -> None:
    id = sent["short"]
    foreign = ask(workbench, "mallory", method, f"/jobs/{id}{path}")
    unknown = ask(workbench, "mallory", method, f"/jobs/{'0' * 32}{path}")
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.json()["detail"].replace(id, "") == unknown.json()["detail"].replace("0" * 32, "")
    assert id not in ask(workbench, "mallory", "GET", "/jobs").text
    assert ask(workbench, "mallory", "GET", f"/jobs?before={id}").status_code == 404
    assert ask(workbench, "resumer", "GET", f"/jobs/{id}").json()["id"] == id


@pytest.mark.parametrize(
    "path",
    [
        "/jobs?limit=0",
        "/jobs?limit=100000",
        "/jobs?before=" + "x" * 65,
        f"/jobs/{'0' * 32}/events?after=-1",
        f"/jobs/{'0' * 32}/events?after=99999999999999999999",
        f"/jobs/{'0' * 32}/events?wait_s=1e9",
        f"/jobs/{'0' * 32}/events?wait_s=nan",
    ],
)
def test_questions_beyond_the_bounds_are_refused(workbench: Workbench, path: str) -> None:
    assert ask(workbench, "ada", "GET", path).status_code == 422


@pytest.mark.parametrize("id", ["%00", "..%2f..%2fsecrets", "'%20OR%201=1--", "%ff", "x" * 3000])
def test_tricks_in_ids_find_nothing(workbench: Workbench, id: str) -> None:
    for method in ("GET", "DELETE"):
        assert ask(workbench, "ada", method, f"/jobs/{id}").status_code == 404
