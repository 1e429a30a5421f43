"""nnsight's way to the backend with its connections kept, and its failures said in a sentence.

The stock client makes a new ``httpx.Client`` for every call, which costs 25 ms for the SSL context alone (64 ms the
first time): of a small trace's 57 ms, 35 are left when the client is kept (two busy cores).  The protocol is unchanged.
Called by :mod:`edif_kernel.routing`; runs in the user's process.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import httpx
import httpx2  # what huggingface_hub asks the mirror with
import websocket
from nnsight.intervention.backends import remote as stock
from nnsight.ndif import pull_env
from nnsight.schema.request import RequestModel
from nnsight.schema.response import ResponseModel, Status
from nnsight.tracing.backend import Backend

from edif import job_view, payload, results
from edif.errors import BackendUnreachable, EdifError, JobFailed
from edif.serving import refusal_sentence
from edif.settings import ClientSettings

#: Shorter than the five seconds after which the gateway hangs up, so that no job is sent into a closing connection.
_KEEP_S = 4.0
#: How long the next trace may take to use the same websocket; a gateway asks for a sign of life after 20.
_KEEP_SESSION_S = 15.0
#: How long a blocking call bears a gateway that is away, once its job is sent, and how often it asks meanwhile.
_AWAY_S, _ASK_AGAIN_S = 120.0, 0.5
#: How long a trace is sent again and again to a gateway that has answered before, and is away or cut the connection.
_SEND_AGAIN_S = 30.0
#: What a gateway, or a proxy before it, answers while it is started again.
_AWAY_STATUS = frozenset({502, 503, 504})
_TIMEOUT = httpx.Timeout(10.0, read=600.0)

_REFRESH_S = 0.1  # of the spinner
#: What comes of a websocket that cannot be made, or is lost; one that the server closes gives an empty message.
_LOST = (ConnectionError, TimeoutError, websocket.WebSocketException, json.JSONDecodeError)
#: Addresses that have answered this process.
_answered: set[str] = set()


class TraceUnreachable(BackendUnreachable, stock.RemoteError):
    """Nobody took the trace."""


class TraceRefused(EdifError, stock.RemoteError):
    """The trace was refused before it ran, or its connection was lost; the sentence says why and what to do."""


class TraceFailed(JobFailed, stock.RemoteError):
    """The job ended without a result: the traceback of the user's block, or the reason why it was stopped."""


class EdifBackend(stock.RemoteBackend):
    """A ``RemoteBackend`` that keeps its HTTP connection from one call to the next."""

    #: Whose traces are sent: its modules are named in them instead of written out. None writes them out.
    model: Any = None
    #: Id of the job that the last blocking call has sent, and of the last event that was heard of it.
    sent: str | None = None
    heard = 0
    #: Sees each status and each printed line first; True when it was meant for it alone and is not shown.
    listener: Callable[[ResponseModel], bool] | None = None

    def request(self, request: RequestModel, tracer: Any) -> Any:
        """Send the trace and wait for its result (blocking), also over a lost connection: the job goes on meanwhile.

        Raises:
            TraceUnreachable: the gateway does not answer.
            TraceRefused: it answered no.
            TraceFailed: the job ended without a result.
        """
        self.sent, self.heard = None, 0
        try:
            return self._request(request, tracer)
        except KeyboardInterrupt:
            self.cancel()  # nobody waits any more (Ctrl-C, the kernel's interrupt): the server need not go on
            raise

    def _request(self, request: RequestModel, tracer: Any) -> Any:
        away = _Away(self.host, _SEND_AGAIN_S)
        while True:
            try:
                return self._ask(request, tracer)
            except _LOST as error:
                if self.sent is not None:
                    return self._take_up_again()
                away.bear(error)  # there was no websocket to send the trace with

    def _ask(self, request: RequestModel, tracer: Any) -> Any:
        """Send the trace and wait for its result on a websocket, which the next trace takes over if it comes soon."""
        key = (os.getpid(), self.ws_host, self.api_key)
        session = _Session.kept(key) or _Session.opened(self.ws_host, self.api_key)
        try:
            request.session_id = session.id
            self.send(request, self._payload(tracer, session.knows_envoys))
            result = self._listen(session.connection)
        except BaseException:
            session.close()
            raise
        session.keep(key)
        return result

    def _payload(self, tracer: Any, knows_envoys: bool) -> bytes:
        if self.model is None or not knows_envoys:
            whole: bytes = self._serialize(tracer)
            return whole
        pull_env()  # as nnsight does: modules of the user's own go along
        sent = payload.serialize(tracer, self.model, self.compress)
        self._log(f"payload: {len(sent):,} bytes ({'compressed' if self.compress else 'raw'})")
        return sent

    def _take_up_again(self) -> Any:
        """Open another websocket for the job that was sent, as often as one is lost, until the job has ended."""
        away = _Away(self.host, _AWAY_S)
        while True:
            try:
                connection = websocket.create_connection(
                    f"{self.ws_host}/subscribe", header={"ndif-api-key": self.api_key}, timeout=_AWAY_S
                )
                try:
                    if not json.loads(connection.recv()).get("resume"):
                        return self._wait_for_sent()  # a server that is not eDIF's
                    connection.send(json.dumps({"resume": {self.sent: self.heard}}))
                    away.over()
                    return self._listen(connection)
                finally:
                    _close(connection)
            except _LOST as error:
                away.bear(error)

    def _listen(self, connection: websocket.WebSocket) -> Any:
        connection.settimeout(_REFRESH_S if self.display.enabled else None)
        while True:
            try:
                response = self.parse(connection.recv())
            except websocket.WebSocketTimeoutException:
                self.display.refresh()
                continue
            if self.sent and response.id != self.sent:
                continue  # of a job that this websocket has told the end of
            result = self.handle(response)
            if response.status == Status.COMPLETED:
                return result

    def parse(self, message: str | bytes) -> ResponseModel:
        """A message of the websocket; the id of its event is what another websocket would go on after."""
        if isinstance(message, str):
            self.heard = json.loads(message).get("event", self.heard)
        return stock.RemoteBackend.parse(message)

    def cancel(self) -> None:
        """End the job that was sent, if one was; may be called from another thread."""
        if known := self.sent or self.job_id:
            with contextlib.suppress(TraceUnreachable):
                self._call("DELETE", f"/jobs/{known}")

    def _wait_for_sent(self) -> Any:
        """Ask for the job that was sent until it has ended; bears the gateway being away for a while."""
        self.job_id = self.sent
        answered_at = time.monotonic()
        while True:
            try:
                answer = self._call("GET", f"/response/{self.job_id}")
            except TraceUnreachable:
                if time.monotonic() - answered_at > _AWAY_S:
                    raise
            else:
                if not answer.is_server_error:
                    answered_at = time.monotonic()
                    result = self._noted(answer)
                    if self.status == Status.COMPLETED:
                        self.job_id = None  # the next call sends a job of its own
                        return result
            time.sleep(_ASK_AGAIN_S)

    def poll(self, tracer: Any = None) -> Any:
        """The result of a non-blocking job, or None while it runs."""
        answer = self._call("GET", f"/response/{self.job_id}")
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return self._noted(answer)

    def handle(self, response: ResponseModel) -> Any:
        """The result, when this status is the last."""
        self._told_of = response.id
        return super().handle(response)

    def download_result(self, url: Any) -> Any:
        """The saved values: out of the message itself, or from behind its link (see :mod:`edif.results`)."""
        if not isinstance(url, str) or not url:
            return super().download_result(url)
        return results.fetch(url, renew=self._new_link, show=self.display.enabled)

    def _new_link(self) -> str:
        answer = _response(self._call("GET", f"/response/{self._told_of}"))
        if not isinstance(answer.data, str):
            raise TraceRefused(answer.description)
        return answer.data

    def note(self, response: ResponseModel) -> bool:
        """Show a status and say whether it is the last.

        Raises:
            TraceFailed: the job ended without a result.
        """
        if self.listener and self.listener(response):
            return False
        try:
            return bool(super().note(response))
        except stock.RemoteError as error:
            raise TraceFailed(str(error)) from None

    def _post(self, request: RequestModel, blob: bytes) -> ResponseModel:
        """Send the trace, under a name: when the answer is lost it is sent again, and still is one job."""
        name, away = uuid.uuid4().hex, _Away(self.host, _SEND_AGAIN_S)
        while True:
            try:
                answer = self._call(
                    "POST",
                    "/request",
                    headers={"edif-request": name},
                    data={"data": request.metadata()},
                    files={"blob": ("request", blob, "application/octet-stream")},
                )
            except TraceUnreachable as error:
                away.bear(error)
                continue
            if answer.status_code in _AWAY_STATUS and away.bears():
                continue
            response = _response(answer)
            self.sent = response.id
            return response

    def _noted(self, answer: httpx.Response) -> Any:
        response = _response(answer)
        self.status = response.status
        return self.handle(response)

    def _call(self, method: str, path: str, headers: Mapping[str, str] | None = None, **content: Any) -> httpx.Response:
        headers = {
            **(headers or {}),
            "ndif-timestamp": repr(time.time()),
            "nnsight-version": stock._NNSIGHT_VERSION,
            "python-version": sys.version,
            "ndif-api-key": self.api_key,
        }
        try:
            answer = _client_of(os.getpid()).request(method, f"{self.host}{path}", headers=headers, **content)
        except httpx.HTTPError as error:
            raise TraceUnreachable(self.host) from error
        _answered.add(self.host)
        return answer


class _Session:
    """An open websocket, and the name under which the gateway tells on it."""

    #: Those that wait for the next trace of this process to this gateway with this key.
    _kept: ClassVar[dict[tuple[int, str, str], list[_Session]]] = {}

    def __init__(self, connection: websocket.WebSocket) -> None:
        self.connection = connection
        try:
            told = json.loads(connection.recv())
            self.id, self.knows_envoys = str(told["session_id"]), bool(told.get("envoys"))
        except BaseException:
            self.close()
            raise
        self._used_at = 0.0

    @classmethod
    def opened(cls, ws_host: str, key: str) -> _Session:
        """A new one."""
        header = {"ndif-api-key": key} if key else None
        return cls(websocket.create_connection(f"{ws_host}/subscribe", header=header))

    @classmethod
    def kept(cls, key: tuple[int, str, str]) -> _Session | None:
        """One that is left from a trace a moment ago and on which nothing has come since: an end, or a sign of life."""
        while waiting := cls._kept.get(key):
            session = waiting.pop()
            fresh = time.monotonic() - session._used_at < _KEEP_SESSION_S
            sock = session.connection.sock
            if fresh and sock and not select.select([sock], [], [], 0)[0]:
                return session
            session.close()
        return None

    def keep(self, key: tuple[int, str, str]) -> None:
        """Leave it to the next trace."""
        self._used_at = time.monotonic()
        self._kept.setdefault(key, []).append(self)

    def close(self) -> None:
        """Be told no more."""
        _close(self.connection)


def _close(connection: websocket.WebSocket) -> None:
    connection.close()
    # The server may have closed first, and then close() leaves the socket open.
    connection.shutdown()  # type: ignore[no-untyped-call]


class _Away:
    """How long a gateway that does not answer is borne; one that never answered is not: its address may be wrong."""

    def __init__(self, host: str, patience_s: float) -> None:
        self._host = host
        self._patience_s = patience_s
        self._since: float | None = None

    def bears(self) -> bool:
        """Wait a moment; False when it has been long enough."""
        self._since = self._since or time.monotonic()
        if self._host not in _answered or time.monotonic() - self._since > self._patience_s:
            return False
        time.sleep(_ASK_AGAIN_S)
        return True

    def bear(self, error: Exception) -> None:
        """Wait a moment.

        Raises:
            TraceUnreachable: it has been long enough.
        """
        if not self.bears():
            raise TraceUnreachable(self._host) from error

    def over(self) -> None:
        """It has answered."""
        self._since = None


def keep_connections(model: Any, make: Callable[[], Backend]) -> Backend:
    """The backend that ``make`` gives for ``model``, over kept connections if it is nnsight's own way to a server.

    Raises:
        TraceUnreachable: the first trace of a model asks the model mirror for the model's name, and it does not answer.
    """
    try:
        backend = make()
    except httpx2.RequestError as error:  # an answer that refuses is another error, with its sentence
        raise TraceUnreachable(ClientSettings().host) from error
    if type(backend) is not stock.RemoteBackend:
        return backend
    kept = EdifBackend.__new__(EdifBackend)  # the settings are worked out already; __init__ would do it again
    kept.__dict__.update(backend.__dict__, model=model)
    if kept.display.enabled and job_view.in_notebook():
        kept.display = job_view.TraceLine("trace", kept.cancel)
    return kept


@functools.cache
def _client_of(process: int) -> httpx.Client:
    """One client for each process: httpx is safe across threads, but a fork must not share its parent's sockets."""
    return httpx.Client(timeout=_TIMEOUT, limits=httpx.Limits(keepalive_expiry=_KEEP_S))


def _response(answer: httpx.Response) -> ResponseModel:
    if answer.is_error:
        raise TraceRefused(refusal_sentence(answer))
    return ResponseModel.model_validate_json(answer.text)
