"""Large results over the whole way: streamed out of the jail, served with ranges, fetched by both kinds of client."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.conftest import Workbench

SCRIPT = """
import json, torch
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.schema.config import CONFIG
from edif.remote import EdifBackend
from edif import results
CONFIG.APP.REMOTE_LOGGING = False
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
told = {}
for kind in (RemoteBackend, EdifBackend):
    for compress in (False, True):
        backend = kind(model.to_model_key(), env=model._remoteable_get_env())
        backend.compress = compress
        with model.trace("A prompt", backend=backend):
            dense = torch.randn(3_000_000, generator=torch.Generator().manual_seed(5)).save()
            loose = torch.arange(4_000_000).save()
        right = dense.equal(torch.randn(3_000_000, generator=torch.Generator().manual_seed(5)))
        told[f"{kind.__name__} {compress}"] = right and loose.equal(torch.arange(4_000_000))
backend = EdifBackend(model.to_model_key(), env=model._remoteable_get_env(), blocking=False)
with model.trace("A prompt", backend=backend):
    big = torch.arange(2_000_000).save()
import time
while backend.poll() is None:
    time.sleep(0.05)
told["again"] = results.of(backend.job_id, show=False)["big"].equal(torch.arange(2_000_000))
told["job"] = backend.job_id
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(workbench: Workbench) -> dict[str, Any]:
    done = workbench.run_client(SCRIPT)
    line = next((line for line in done.stdout.splitlines() if line.startswith("TOLD ")), None)
    assert line, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found: dict[str, Any] = json.loads(line.removeprefix("TOLD "))
    return found


@pytest.fixture
def link(workbench: Workbench, told: dict[str, Any]) -> str:
    answer = httpx.get(
        f"{workbench.installation.url('gateway')}/response/{told['job']}",
        headers={"ndif-api-key": workbench.key("ada")},
    )
    return str(answer.json()["data"])


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as opened:
        yield opened


def test_both_clients_get_large_results_compressed_and_not(told: dict[str, Any]) -> None:
    assert {name: value for name, value in told.items() if name != "job"} == {
        "RemoteBackend False": True,
        "RemoteBackend True": True,
        "EdifBackend False": True,
        "EdifBackend True": True,
        "again": True,
    }


def test_a_result_is_served_whole_and_in_parts_with_its_checksum(client: httpx.Client, link: str) -> None:
    whole = client.get(link)
    data = whole.content
    digest = hashlib.sha256(data).digest()
    assert whole.status_code == 200
    assert whole.headers["etag"] == f'"{digest.hex()}"'
    assert whole.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    head = client.head(link)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(data)))
    for wanted, start, end in (
        ("bytes=5-9", 5, 10),
        ("bytes=1000000-", 1_000_000, len(data)),
        ("bytes=-3", len(data) - 3, len(data)),
        (f"bytes=7-{len(data) * 2}", 7, len(data)),
    ):
        part = client.get(link, headers={"Range": wanted})
        assert part.status_code == 206
        assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(data)}"
        assert part.content == data[start:end]


def test_a_range_is_only_given_of_the_object_that_was_begun(client: httpx.Client, link: str) -> None:
    size = int(client.head(link).headers["content-length"])
    etag = client.head(link).headers["etag"]
    assert client.get(link, headers={"Range": "bytes=4-7", "If-Range": etag}).status_code == 206
    for headers in (
        {"Range": "bytes=4-7", "If-Range": '"another"'},
        {"Range": "bytes=1-2,4-5"},
        {"Range": "lines=1-2"},
        {"Range": "bytes=9-4"},
        {"Range": "bytes=-"},
    ):
        answer = client.get(link, headers=headers)
        assert (answer.status_code, len(answer.content)) == (200, size)
    beyond = client.get(link, headers={"Range": f"bytes={size}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert client.get(link, headers={"If-None-Match": etag}).status_code == 304


def test_a_link_opens_nothing_else(client: httpx.Client, link: str, workbench: Workbench) -> None:
    assert client.get(re.sub(r"-(\d+)\?", r"-9\1?", link)).status_code == 401
    assert client.get(link[:-1] + ("0" if link[-1] != "0" else "1")).status_code == 401
    assert client.get(link.replace("/results/", "/payloads/")).status_code == 401
    stranger = {"ndif-api-key": workbench.key("grace")}
    job = link.rpartition("/")[2].partition("-")[0]
    assert client.get(f"{workbench.installation.url('gateway')}/response/{job}", headers=stranger).status_code == 404
