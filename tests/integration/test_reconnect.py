"""A trace outlives the gateway and the connection: it is one job, and its client hears everything once, in order."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import psutil
import pytest
import websocket
from tests.conftest import Workbench
from tests.integration.test_bad_requests import send

SLOW_TRACES = """
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
from edif.remote import EdifBackend

class Listening(EdifBackend):
    def note(self, response):
        if response.status == "LOG":
            print("HEARD", response.description, flush=True)
        return super().note(response)

model = TransformersModel("edif/tiny-gpt2", task="text-generation")
backend = Listening(model.to_model_key(), env=model._remoteable_get_env())
for lines in (16, 1):
    with model.trace("The Eiffel Tower is in the city of", backend=backend):
        import time
        for number in range(lines):
            print("line", number)
            time.sleep(0.5 * (lines > 1))
        logits = model.output.logits.save()
    print("RESULT", tuple(logits.shape), flush=True)
"""

#: Counts the websockets that this client opens; between two traces it waits for a line of the test.
TRACES_IN_A_ROW = """
import sys
import websocket
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from edif import remote
CONFIG.APP.REMOTE_LOGGING = False

opened = []
def counted(*args, connect=websocket.create_connection, **kwargs):
    opened.append(connect(*args, **kwargs))
    return opened[-1]
websocket.create_connection = counted

model = TransformersModel("edif/tiny-gpt2", task="text-generation")
for words in ("one", "one two", "one two three", "one two three four"):
    backend = remote.EdifBackend(model.to_model_key(), env=model._remoteable_get_env())
    try:
        with model.trace(words, backend=backend):
            if words == "one two three":
                raise ValueError("three")
            tokens = model.lm_head.input.shape[1].save()
        print("RESULT", tokens, len(opened), flush=True)
    except remote.TraceFailed:
        print("FAILED", len(opened), flush=True)
    sys.stdin.readline()
"""

TALKING_PAYLOAD = """
import sys
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel

class Sample:
    def __call__(self, tracer):
        open(sys.argv[-1], "wb").write(RequestModel.serialize(tracer, compress=False))

model = TransformersModel("edif/tiny-gpt2", task="text-generation")
with model.trace("Hello", backend=Sample()):
    import time
    for number in range(6):
        print("line", number)
        time.sleep(0.3)
    width = model.output.logits.shape[-1].save()
"""


def _gateway(workbench: Workbench) -> int:
    (pid,) = [entry["pid"] for entry in workbench.json("pids") if entry["role"] == "gateway"]
    return int(pid)


def _until_it_answers(workbench: Workbench) -> None:
    for _ in range(120):
        try:
            if httpx.get(f"{workbench.installation.url('gateway')}/ping").json() == "pong":
                return
        except httpx.HTTPError:
            time.sleep(0.25)
    raise AssertionError("the gateway did not come back")


@pytest.fixture(scope="module")
def talking_payload(workbench: Workbench) -> bytes:
    """A trace that prints six lines in two seconds."""
    file = workbench.installation.home / "talking-payload"
    made = workbench.run_client(TALKING_PAYLOAD.replace("sys.argv[-1]", repr(str(file))))
    assert made.returncode == 0, made.stderr
    return file.read_bytes()


@pytest.fixture
def subscribe(workbench: Workbench) -> Iterator[Callable[..., tuple[websocket.WebSocket, str]]]:
    """Opens websockets, with the id of their session."""
    url = workbench.installation.url("gateway").replace("http", "ws", 1)
    with ExitStack() as stack:

        def open_one(user: str = "ada") -> tuple[websocket.WebSocket, str]:
            header = {"ndif-api-key": workbench.key(user)}
            socket = websocket.create_connection(f"{url}/subscribe", header=header, timeout=60)
            stack.callback(socket.shutdown)
            return socket, json.loads(socket.recv())["session_id"]

        yield open_one


def _hear(socket: websocket.WebSocket, until: str) -> list[dict[str, Any]]:
    """Every message up to the first whose description is ``until``, or the result."""
    heard: list[dict[str, Any]] = []
    while isinstance(message := socket.recv(), str):
        heard.append(json.loads(message))
        if heard[-1]["description"].strip() == until:
            break
    return heard


def test_traces_in_a_row_use_one_websocket_until_it_ends(workbench: Workbench) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", TRACES_IN_A_ROW],
        env=workbench.environment("ada"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as client:
        assert client.stdin
        assert client.stdout

        def next_trace() -> list[str]:
            assert client.stdin
            assert client.stdout
            client.stdin.write("\n")
            client.stdin.flush()
            return client.stdout.readline().split()

        kind, first, opened = client.stdout.readline().split()
        assert (kind, opened) == ("RESULT", "1")
        kind, second, opened = next_trace()
        assert (kind, opened) == ("RESULT", "1")
        assert int(second) > int(first)
        os.kill(_gateway(workbench), signal.SIGKILL)
        _until_it_answers(workbench)
        assert next_trace() == ["FAILED", "2"]  # the old one has ended with the gateway
        assert next_trace()[::2] == ["RESULT", "3"]  # one that has told of a failure is not used again


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gateway_that_ends_costs_no_result_and_no_line(workbench: Workbench, number: signal.Signals) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", SLOW_TRACES],
        env=workbench.environment("ada"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    said = client.stdout.readline()  # the first line of the job was heard: it runs
    os.kill(_gateway(workbench), number)
    rest, complained = client.communicate(timeout=120)
    lines = [line for line in (said + rest).splitlines() if line]
    heard = [f"HEARD line {number}" for number in range(16)]
    assert lines == [*heard, "RESULT (1, 8, 421)", "HEARD line 0", "RESULT (1, 8, 421)"], complained
    _until_it_answers(workbench)


def test_a_request_sent_again_is_the_same_job_and_anothers_is_not(workbench: Workbench) -> None:
    name = secrets.token_hex(16)
    first = send(workbench, headers={"edif-request": name}).json()
    again = send(workbench, headers={"edif-request": name}).json()
    foreign = send(workbench, headers={"edif-request": name, "ndif-api-key": workbench.key("grace")}).json()
    assert again["id"] == first["id"] != foreign["id"]
    assert [job["id"] for job in workbench.json("jobs")].count(first["id"]) == 1
    unnamed = {send(workbench).json()["id"] for _ in range(2)}
    assert len(unnamed) == 2


@pytest.mark.parametrize("name", ["", "short", "x" * 65, "a" * 16 + " b", "../../secrets/x-y", "a" * 20 + "'; --"])
def test_a_strange_name_of_a_request_is_refused(workbench: Workbench, name: str) -> None:
    answer = send(workbench, headers={"edif-request": name})
    assert (answer.status_code, answer.json()["code"]) == (400, "payload-refused")
    assert "edif-request" in answer.json()["detail"]


def test_another_websocket_is_told_what_was_missed_once_and_in_order(
    workbench: Workbench, talking_payload: bytes, subscribe: Any
) -> None:
    socket, session = subscribe()
    job = send(workbench, envelope={"session_id": session}, payload=talking_payload).json()["id"]
    heard = _hear(socket, until="line 1")
    socket.close()
    time.sleep(0.7)
    socket, _ = subscribe()
    socket.send(json.dumps({"resume": {job: heard[-1]["event"]}}))
    heard += _hear(socket, until="line 4")
    # The same job on a third one, from the beginning, while the second goes on.
    third, _ = subscribe()
    third.send(json.dumps({"resume": {job: 0}}))
    whole = _hear(third, until="")
    heard += _hear(socket, until="")
    assert heard == whole
    assert [one["event"] for one in heard] == sorted({one["event"] for one in heard})
    lines = [one["description"].strip() for one in heard if one["status"] == "LOG"]
    assert lines == [f"line {number}" for number in range(6)]
    # When it has ended, all of it is still told.
    last, _ = subscribe()
    last.send(json.dumps({"resume": {job: whole[2]["event"]}}))
    assert _hear(last, until="") == whole[3:]


def test_nobody_hears_anothers_job(workbench: Workbench, talking_payload: bytes, subscribe: Any) -> None:
    job = send(workbench, payload=talking_payload).json()["id"]
    for id in (job, "0" * 32):
        socket, _ = subscribe("grace")
        socket.send(json.dumps({"resume": {id: 0}}))
        assert json.loads(socket.recv()) == {
            "id": id,
            "status": "ERROR",
            "description": "There is no such job of yours.",
        }
        socket.settimeout(0.5)
        with pytest.raises(websocket.WebSocketTimeoutException):
            socket.recv()


@pytest.mark.parametrize(
    "said", ["", "[]", '{"resume": {"../x": 0}}', '{"resume": {"%s": -1}}' % ("a" * 32), '{"x": 1}', "\0", "{" * 99999]
)
def test_a_strange_word_on_a_websocket_ends_it_alone(workbench: Workbench, said: str, subscribe: Any) -> None:
    socket, _ = subscribe()
    socket.send(said)
    opcode, data = socket.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert int.from_bytes(data[:2]) == 1008
    assert httpx.get(f"{workbench.installation.url('gateway')}/ping").json() == "pong"


def test_a_gateway_told_to_end_finishes_what_it_has_and_sends_its_clients_away(
    workbench: Workbench, subscribe: Any
) -> None:
    pid = _gateway(workbench)
    socket, session = subscribe()
    name = secrets.token_hex(16)
    content = httpx.Request(
        "POST",
        f"{workbench.installation.url('gateway')}/request",
        data={"data": json.dumps({"model_key": "x", "session_id": session})},
        files={"blob": ("request", b"payload" * 100_000)},
    )
    body = content.read()

    def slowly() -> Any:
        yield body[:100_000]
        os.kill(pid, signal.SIGTERM)
        time.sleep(1.5)
        yield body[100_000:]

    headers = {**content.headers, "ndif-api-key": workbench.key("ada"), "nnsight-version": "0.8.1"}
    answer = httpx.post(content.url, headers={**headers, "edif-request": name}, content=slowly(), timeout=30)
    assert answer.json()["code"] == "payload-refused"  # it was read to its end and judged
    opcode, data = socket.recv_data()
    assert (opcode, int.from_bytes(data[:2])) == (websocket.ABNF.OPCODE_CLOSE, 1012)
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=15)
    assert not psutil.pid_exists(pid)
    _until_it_answers(workbench)
