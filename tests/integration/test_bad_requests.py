"""What a request must not do: each is refused with a code and a sentence, and nothing is queued."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import zstandard
from tests.conftest import Workbench

from edif_protocol.wire import ModelKey

PAYLOAD = pickle.dumps(("not", "a", "tracer"), protocol=4)
TINY = ModelKey(repo_id="edif/tiny-gpt2", revision=None, task="text-generation").text()


def send(workbench: Workbench, **changes: Any) -> httpx.Response:
    """A request that is right but for ``changes``."""
    envelope = {"model_key": TINY, "session_id": "", "compress": False, "env": {}, **changes.pop("envelope", {})}
    headers = {"ndif-api-key": workbench.key("ada"), "nnsight-version": "0.8.1", **changes.pop("headers", {})}
    request = {
        "data": {"data": json.dumps(envelope)},
        "files": {"blob": ("request", changes.pop("payload", PAYLOAD))},
        **changes,
    }
    headers = {name: value for name, value in headers.items() if value is not None}
    return httpx.post(f"{workbench.installation.url('gateway')}/request", headers=headers, timeout=60, **request)


@pytest.mark.parametrize(
    ("changes", "status", "code", "says"),
    [
        ({"headers": {"ndif-api-key": None}}, 401, "key-refused", "carries no API key. Get one at http://"),
        ({"headers": {"ndif-api-key": "f" * 32}}, 401, "key-refused", "Get one at http://"),
        ({"headers": {"nnsight-version": "0.7.0"}}, 400, "version-refused", "pip install"),
        ({"headers": {"nnsight-version": None}}, 400, "version-refused", "pip install"),
        ({"payload": b"garbage"}, 400, "payload-refused", "not what nnsight sends"),
        ({"envelope": {"compress": True}}, 400, "payload-refused", "said to be compressed"),
        ({"payload": b""}, 400, "payload-refused", ""),
        ({"data": {"data": "{"}}, 400, "payload-refused", "envelope"),
        ({"data": {"data": "{}"}}, 400, "payload-refused", "model_key"),
        ({"data": {}}, 400, "payload-refused", "lacks its field"),
        ({"files": {}}, 400, "payload-refused", ""),
        ({"envelope": {"session_id": "somebody-elses"}}, 400, "session-unknown", "run the cell again"),
        ({"envelope": {"session_id": "x" * 1000}}, 400, "payload-refused", "session_id"),
        ({"envelope": {"model_key": "os.system:{}"}}, 400, "payload-refused", "TransformersModel"),
        ({"envelope": {"model_key": TINY.split(":", 1)[0] + ":[]"}}, 400, "payload-refused", "model key"),
        (
            {"envelope": {"model_key": TINY.replace("tiny-gpt2", "tiny-gpt")}},
            404,
            "model-unknown",
            "Did you mean edif/tiny-gpt2",
        ),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_queued(
    workbench: Workbench, changes: dict[str, Any], status: int, code: str, says: str
) -> None:
    before = workbench.json("jobs")
    answer = send(workbench, **dict(changes))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert says in answer.json()["detail"]
    assert workbench.json("jobs") == before


def test_a_request_over_the_size_is_refused_declared_or_not(workbench: Workbench) -> None:
    big = bytes(65 << 20)
    declared = send(workbench, payload=big)
    assert (declared.status_code, declared.json()["code"]) == (413, "payload-too-large")

    def pieces(start: bytes) -> Iterator[bytes]:
        yield start
        for _ in range(70):
            yield bytes(1 << 20)

    url = f"{workbench.installation.url('gateway')}/request"
    headers = {
        "ndif-api-key": workbench.key("ada"),
        "nnsight-version": "0.8.1",
        "content-type": "multipart/form-data; boundary=b",
    }
    start = b'--b\r\nContent-Disposition: form-data; name="blob"; filename="x"\r\n\r\n'
    undeclared = httpx.post(url, content=pieces(start), headers=headers, timeout=60)
    assert (undeclared.status_code, undeclared.json()["code"]) == (413, "payload-too-large")


def test_a_bomb_is_refused(workbench: Workbench) -> None:
    bomb = zstandard.ZstdCompressor().compress(PAYLOAD[:2] + bytes(600 << 20) + b".")
    answer = send(workbench, payload=bomb, envelope={"compress": True})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload-too-large")


def test_jobs_and_results_are_their_owners_alone(workbench: Workbench) -> None:
    url = workbench.installation.url("gateway")
    answer = send(workbench)
    assert answer.status_code == 200
    job = answer.json()["id"]
    mine = httpx.get(f"{url}/response/{job}", headers={"ndif-api-key": workbench.key("ada")})
    assert mine.status_code == 200
    assert mine.json()["id"] == job
    for headers, status in [({"ndif-api-key": workbench.key("bob")}, 404), ({}, 401)]:
        assert httpx.get(f"{url}/response/{job}", headers=headers).status_code == status
    unknown = httpx.get(f"{url}/response/{'0' * 32}", headers={"ndif-api-key": workbench.key("ada")})
    assert unknown.status_code == 404
    for name in (f"results/{job}-1", "results/..%2f..%2fsecrets%2flink-key", "secrets/link-key"):
        refused = httpx.get(f"{url}/objects/{name}", params={"ends": 99999999999, "signature": "0" * 64})
        assert refused.status_code in (401, 404)
        assert "secret" not in refused.text


def test_odd_paths_and_methods_do_not_break_the_gateway(workbench: Workbench) -> None:
    url = workbench.installation.url("gateway")
    for path in (
        "/response/'; drop table jobs;--",
        "/response/%00",
        "/objects/a/b",
        "/hf/api/models/%2e%2e/x",
        "/nowhere",
    ):
        assert httpx.get(url + path, headers={"ndif-api-key": workbench.key("ada")}).status_code < 500
    assert httpx.get(f"{url}/ping").json() == "pong"
    assert httpx.get(f"{url}/connected").json() == {"status": "connected"}
