"""A whole workbench on PostgreSQL and S3: traces, a large result, two gateways; then parts of it are killed at random.

The long form of the last test is ``edif bench faults --kills 200``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.bench import faults
from tests.conftest import Workbench, skip
from tests.services import NotInstalled

from edif_backend.jobs import open_jobs
from edif_backend.objects import open_objects

#: Sent to one gateway and, when that is not `""`, listened to at another.
TRACES = """
import os, sys, time
import torch
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
from edif.remote import EdifBackend

class Apart(EdifBackend):
    def note(self, response):
        print("HEARD", response.status.value, response.description.strip(), flush=True)
        return super().note(response)

model = TransformersModel("edif/tiny-gpt2", task="text-generation")
backend = Apart(model.to_model_key(), env=model._remoteable_get_env())
backend.ws_host = os.environ["LISTEN_AT"].replace("http", "ws", 1)
lines, size = int(os.environ["LINES"]), int(os.environ["MEGABYTES"]) * 250_000
with model.trace("Hello", backend=backend):
    import time
    for number in range(lines):
        print("line", number)
        time.sleep(0.5)
    values = torch.rand(size).save()
print("RESULT", values.shape, bool((values < 1).all()))
"""


@pytest.fixture(scope="module")
def fabric() -> Iterator[Any]:
    try:
        with faults.on_postgres_and_s3("faults") as made:
            made[0].up()
            yield made
    except NotInstalled as missing:
        skip(missing)


@pytest.fixture(scope="module")
def second_gateway(fabric: Any) -> Iterator[str]:
    workbench, _, _ = fabric
    port = workbench.installation.port + 10
    process = subprocess.Popen(
        [sys.executable, "-m", "edif_backend.gateway"],
        env={
            **workbench.operator_environment(),
            "EDIF_HOST": workbench.installation.host,
            "EDIF_BACKEND_GATEWAY_PORT": str(port),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://{workbench.installation.host}:{port}"
    assert faults._until(lambda: _answers(url), 60)
    yield url
    process.terminate()
    assert process.wait(20) in (0, -signal.SIGTERM)


def _answers(url: str) -> bool:
    try:
        return bool(httpx.get(f"{url}/ping").json() == "pong")
    except httpx.HTTPError:
        return False


def _trace(workbench: Workbench, lines: int, megabytes: int, *, host: str = "", listen: str = "") -> Any:
    host = host or workbench.installation.url("gateway")
    own = {"NDIF_HOST": host, "LISTEN_AT": listen or host, "LINES": str(lines), "MEGABYTES": str(megabytes)}
    return subprocess.Popen(
        [sys.executable, "-c", TRACES],
        env={**workbench.environment("ada"), **own},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _kill(workbench: Workbench, role: str, number: signal.Signals) -> None:
    (pid,) = [member["pid"] for member in workbench.json("pids") if member["role"] == role]
    os.kill(pid, number)


def test_a_trace_and_a_large_result(fabric: Any) -> None:
    workbench, _, settings = fabric
    said, complained = _trace(workbench, 1, 12).communicate(timeout=120)
    assert "RESULT torch.Size([3000000]) True" in said, complained
    jobs = open_jobs(workbench.installation.jobs_database, url=settings.database_url)
    (job, *_) = jobs.newest()
    jobs.close()
    assert job.result_bytes > settings.inline_result_bytes
    objects = open_objects(workbench.installation.objects_dir, settings)
    assert objects.stat(job.result).bytes == job.result_bytes
    assert not workbench.installation.jobs_database.exists()
    assert not workbench.installation.objects_dir.exists()


def test_a_job_of_one_gateway_is_told_and_fetched_at_another(fabric: Any, second_gateway: str) -> None:
    workbench, _, _ = fabric
    first = workbench.installation.url("gateway")
    for host, listen in ((second_gateway, second_gateway), (first, second_gateway), (second_gateway, first)):
        said, complained = _trace(workbench, 2, 12, host=host, listen=listen).communicate(timeout=120)
        assert "HEARD LOG line 0\nHEARD LOG line 1\n" in said, complained
        assert "RESULT torch.Size([3000000]) True" in said, complained


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_runs_on_while_the_dispatcher_is_started_again(fabric: Any, number: signal.Signals) -> None:
    workbench, _, settings = fabric
    client = _trace(workbench, 14, 1)
    while "line 1" not in client.stdout.readline():
        assert client.poll() is None
    _kill(workbench, "dispatcher", number)
    said, complained = client.communicate(timeout=120)
    assert "RESULT torch.Size([250000]) True" in said, complained
    jobs = open_jobs(workbench.installation.jobs_database, url=settings.database_url)
    (job, *_) = jobs.newest()
    jobs.close()
    assert job.attempt == 1  # the replica went on with it, and told the next dispatcher how it ended


def test_the_gateway_lives_while_its_database_is_away(fabric: Any) -> None:
    workbench, postgres, _ = fabric
    url = workbench.installation.url("gateway")
    client = _trace(workbench, 10, 1)
    while "line 1" not in client.stdout.readline():
        assert client.poll() is None
    postgres.kill()
    with httpx.Client(timeout=30) as http:
        slowest = 0.0
        ends_at = time.monotonic() + 4
        asked = subprocess.Popen([sys.executable, "-c", f"import httpx; httpx.get({url + '/status'!r}, timeout=60)"])
        while time.monotonic() < ends_at:
            began = time.monotonic()
            assert http.get(f"{url}/ping").json() == "pong"
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
    assert slowest < 4  # it was not a table's patience
    postgres.start_again()
    asked.wait(60)
    said, complained = client.communicate(timeout=120)
    assert [line for line in said.splitlines() if "LOG" in line][-1] == "HEARD LOG line 9", complained
    assert "RESULT torch.Size([250000]) True" in said, complained


# nnsight's websocket that the server has closed leaves its socket to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.timeout(600)
def test_random_kills_lose_nothing_and_double_nothing(fabric: Any) -> None:
    workbench, postgres, settings = fabric
    report = faults.run(workbench, postgres, settings, kills=10, seed=7)
    assert report.findings == []
    assert sum(report.kills.values()) == 10
    assert len(report.told) > 10
