"""The kept connection speaks nnsight's protocol, and every failure is one sentence at the user's line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import httpx2
import pytest
from huggingface_hub.errors import RepositoryNotFoundError
from nnsight.intervention.backends.remote import RemoteBackend, RemoteError
from nnsight.schema.request import RequestModel
from nnsight.schema.response import Status

import edif
from edif import remote
from edif.remote import EdifBackend, TraceFailed, TraceRefused, TraceUnreachable, keep_connections

HOST = "http://127.0.0.1:1"
RECEIVED = {"id": "job-1", "status": "RECEIVED", "description": ""}


def _backend(monkeypatch: pytest.MonkeyPatch, answer: Callable[[httpx.Request], httpx.Response]) -> EdifBackend:
    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(remote, "_client_of", lambda process: client)
    monkeypatch.setattr(remote, "_answered", set[str]())  # one that has answered is borne for half a minute
    kept = keep_connections(None, lambda: RemoteBackend("line", host=HOST, api_key="a-key", blocking=False))
    assert isinstance(kept, EdifBackend)
    kept.display.enabled = False
    return kept


def test_a_job_is_sent_as_nnsight_sends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=RECEIVED)

    response = _backend(monkeypatch, answer)._post(RequestModel(model_key="line"), b"payload")
    assert (response.id, response.status) == ("job-1", Status.RECEIVED)
    [request] = seen
    assert (request.method, str(request.url)) == ("POST", f"{HOST}/request")
    assert request.headers["ndif-api-key"] == "a-key"
    assert {"nnsight-version", "python-version", "ndif-timestamp"} <= set(request.headers)
    assert b'name="data"' in request.content
    assert b"payload" in request.content


def test_connection_is_kept() -> None:
    assert remote._client_of(1) is remote._client_of(1)
    assert remote._client_of(1) is not remote._client_of(2)


def test_refusal_is_the_gateways_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = _backend(monkeypatch, lambda _: httpx.Response(401, json={"detail": "Get a new key.", "code": "x"}))
    with pytest.raises(TraceRefused, match=r"^Get a new key\.$") as raised:
        backend._post(RequestModel(model_key="line"), b"")
    assert isinstance(raised.value, RemoteError)
    assert isinstance(raised.value, edif.EdifError)


def test_answer_of_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_SEND_AGAIN_S", 0.1)
    backend = _backend(monkeypatch, lambda _: httpx.Response(502, text="<html>"))
    with pytest.raises(TraceRefused, match="502 Bad Gateway"):
        backend._post(RequestModel(model_key="line"), b"")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TraceUnreachable, match=r"127\.0\.0\.1:1 does not answer") as raised:
        _backend(monkeypatch, answer)._post(RequestModel(model_key="line"), b"")
    assert isinstance(raised.value, RemoteError)


def test_mirror_away_at_the_first_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> RemoteBackend:
        raise httpx2.ConnectError("Name or service not known")

    monkeypatch.setenv("NDIF_HOST", HOST)
    with pytest.raises(TraceUnreachable, match="does not answer"):
        keep_connections(None, make)


def test_mirror_that_refuses_is_not_away() -> None:
    request = httpx2.Request("GET", f"{HOST}/hf/api/models/edif/none")
    refusal = RepositoryNotFoundError("not served", response=httpx2.Response(404, request=request))

    def make() -> RemoteBackend:
        raise refusal

    with pytest.raises(RepositoryNotFoundError, match="not served"):
        keep_connections(None, make)


def test_poll_before_and_after_the_first_status(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(
        [httpx.Response(404, json={"detail": "?"}), httpx.Response(200, json={**RECEIVED, "status": "RUNNING"})]
    )
    backend = _backend(monkeypatch, lambda _: next(answers))
    backend.job_id = "job-1"
    assert backend.poll() is None
    assert backend.status is None
    assert backend.poll() is None
    assert backend.status is Status.RUNNING


def test_failed_job_shows_the_blocks_own_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Traceback (most recent call last):\n  File cell, line 2\nValueError: no"
    failed = {**RECEIVED, "status": "ERROR", "description": said}
    backend = _backend(monkeypatch, lambda _: httpx.Response(200, json=failed))
    backend.job_id = "job-1"
    with pytest.raises(TraceFailed) as raised:
        backend.poll()
    assert isinstance(raised.value, RemoteError)
    assert str(raised.value) == said
    assert raised.value._render_traceback_()[-1] == said


def test_blocking_call_without_a_server_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import websocket

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(websocket, "create_connection", refuse)
    backend = _backend(monkeypatch, lambda _: httpx.Response(500))
    monkeypatch.setattr(backend, "_serialize", lambda tracer: b"")
    with pytest.raises(TraceUnreachable):
        backend.request(RequestModel(model_key="line"), None)


def test_traceback_ends_at_the_users_line() -> None:
    def inner() -> None:
        raise edif.BackendRefused("Wait a minute.")

    try:
        inner()
    except edif.EdifError as error:
        shown = error._render_traceback_()
    assert shown[0].endswith('raise edif.BackendRefused("Wait a minute.")')
    assert shown[-1] == "BackendRefused: Wait a minute."


def test_traceback_shows_code_in_a_folder_named_like_a_library() -> None:
    code = compile("raise edif.BackendRefused('no')", "/home/ada/edif/nnsight/study.py", "exec")
    with pytest.raises(edif.BackendRefused) as caught:
        exec(code, {"edif": edif})  # noqa: S102 - a user's script, by another name
    assert caught.value._render_traceback_()[0].startswith("----> 1")


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_ASK_AGAIN_S", 0.0)


@pytest.mark.parametrize(
    "first", [httpx.Response(503), httpx.Response(502), httpx.ReadError("cut"), httpx.ConnectError("no")]
)
def test_a_request_whose_answer_is_lost_is_sent_again_under_its_name(
    monkeypatch: pytest.MonkeyPatch, no_pauses: None, first: httpx.Response | httpx.HTTPError
) -> None:
    names: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        names.append(request.headers["edif-request"])
        if len(names) == 1 and isinstance(first, httpx.HTTPError):
            raise first
        return first if len(names) == 1 else httpx.Response(200, json=RECEIVED)

    backend = _backend(monkeypatch, answer)
    monkeypatch.setattr(remote, "_answered", {HOST})
    assert backend._post(RequestModel(model_key="line"), b"").id == "job-1"
    backend._post(RequestModel(model_key="line"), b"")
    assert names[0] == names[1] != names[2]


def test_a_gateway_that_stays_away_is_borne_for_a_while_alone(monkeypatch: pytest.MonkeyPatch, no_pauses: None) -> None:
    asked: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(1.0)
        return httpx.Response(503, json={"detail": "The jobs table is away.", "code": "not-serving"})

    backend = _backend(monkeypatch, answer)
    monkeypatch.setattr(remote, "_answered", {HOST})
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(remote.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(TraceRefused, match=r"^The jobs table is away\.$"):
        backend._post(RequestModel(model_key="line"), b"")
    assert 2 <= len(asked) <= 5


def test_an_address_that_never_answered_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(1.0)
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(TraceUnreachable):
        _backend(monkeypatch, answer)._post(RequestModel(model_key="line"), b"")
    assert len(asked) == 1
