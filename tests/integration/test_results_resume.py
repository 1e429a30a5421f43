"""The client's downloads against a server that hangs up in the middle, lies, and lets links end."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
import torch

from edif import results
from edif.errors import BackendUnreachable
from edif_backend.executors import packing

SAVED = {"dense": torch.randn(1_500_000), "nested": [torch.arange(7), {"x": torch.zeros(3, 4)}]}


def result_bytes(compress: bool) -> bytes:
    pieces: list[bytes] = []
    packing.pack(SAVED, compress, lambda piece: pieces.append(bytes(piece)))
    return b"".join(pieces)


class Server:
    """Serves one result; ``cuts`` are the positions at which it hangs up, one a connection."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.sha256 = hashlib.sha256(data).digest()
        self.cuts: list[int] = []
        self.etag = '"1"'
        self.key = "1"
        self.takes_ranges = True
        self.starts: list[int] = []
        self.renewed = 0
        self.url = ""

    def link(self) -> str:
        return f"{self.url}?key={self.key}"

    def renew(self) -> str:
        self.renewed += 1
        return self.link()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        if not request.path.endswith(f"key={self.key}"):
            request.send_error(401)
            return
        found = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        start = int(found[1]) if found and self.takes_ranges else 0
        self.starts.append(start)
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        request.send_header("Content-Length", str(len(self.data) - start))
        request.send_header("ETag", self.etag)
        request.send_header("Repr-Digest", f"sha-256=:{base64.b64encode(self.sha256).decode()}:")
        request.end_headers()
        end = self.cuts.pop(0) if self.cuts else len(self.data)
        request.wfile.write(self.data[start:end])
        request.close_connection = True


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server.url = f"http://127.0.0.1:{http.server_port}/objects/results/x"
        thread = Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(params=[False, True], ids=["plain", "zstd"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(Server(result_bytes(request.param))) as started:
        yield started


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_PAUSE_S", 0.0)


def fetched(server: Server) -> dict[str, Any]:
    return results.fetch(server.link(), renew=server.renew, show=False)


def test_a_download_cut_at_any_byte_goes_on_there(server: Server) -> None:
    chance = random.Random(3)
    cuts = sorted(chance.sample(range(1, len(server.data)), 25))
    server.cuts = [1, 2, 3, *cuts, len(server.data) - 1]
    torch.testing.assert_close(fetched(server), SAVED, rtol=0, atol=0)
    assert len(server.starts) == 30
    assert server.starts == [0, 1, 2, 3, *cuts, len(server.data) - 1]


def test_a_server_without_ranges_is_read_again_from_the_start(server: Server) -> None:
    server.takes_ranges = False
    server.cuts = [1000, 2_000_000]
    torch.testing.assert_close(fetched(server), SAVED, rtol=0, atol=0)
    assert server.starts == [0, 0, 0]


def test_a_link_that_ends_half_way_is_renewed(server: Server) -> None:
    server.cuts = [4_000_000]
    first = server.link()
    answer = server.answer

    def once(request: BaseHTTPRequestHandler) -> None:
        answer(request)
        server.key = "2"

    server.answer = once  # type: ignore[method-assign]
    loaded = results.fetch(first, renew=server.renew, show=False)
    torch.testing.assert_close(loaded, SAVED, rtol=0, atol=0)
    assert server.renewed == 1


@pytest.mark.parametrize("place", [0.01, 0.5, 0.999])
def test_a_wrong_byte_is_noticed_and_nothing_is_loaded(server: Server, place: float) -> None:
    wrong = bytearray(server.data)
    wrong[int(place * len(wrong))] ^= 1
    server.data = bytes(wrong)
    with pytest.raises(results.ResultDamaged, match="did not arrive as the server wrote it"):
        fetched(server)


def test_a_result_that_changes_half_way_is_not_pieced_together(server: Server) -> None:
    server.cuts = [1_000_000]
    answer = server.answer

    def once(request: BaseHTTPRequestHandler) -> None:
        answer(request)
        server.etag = '"2"'

    server.answer = once  # type: ignore[method-assign]
    with pytest.raises(results.ResultDamaged, match="changed"):
        fetched(server)


def test_a_server_that_is_gone_is_given_up_in_the_end(server: Server) -> None:
    server.cuts = [1000] * 20
    with pytest.raises(BackendUnreachable):
        fetched(server)


def test_a_refused_link_that_cannot_be_renewed_ends_in_a_sentence(server: Server) -> None:
    with pytest.raises(results.ResultGone, match="run the cell again"):
        results.fetch(f"{server.url}?key=wrong", renew=lambda: f"{server.url}?key=wrong", show=False)


def test_loaded_tensors_can_be_changed_and_outlive_the_file(server: Server) -> None:
    loaded = fetched(server)
    loaded["dense"][0] = 7.0
    assert loaded["dense"][0] == 7.0
    assert fetched(server)["dense"][0] == SAVED["dense"][0]


def test_a_bar_shows_how_far_it_is(server: Server) -> None:
    told: list[float] = []

    class Bar:
        total: float | None = None

        def update(self, n: float) -> None:
            told.append(n)

    bar, file = Bar(), io.BytesIO()
    server.cuts = [100]
    results.Download(server.link(), server.renew, file_target(file), bar).run()
    assert bar.total == len(server.data) == sum(told)
    assert file.getvalue() == server.data


def file_target(file: io.BytesIO) -> Any:
    class Kept:
        write = file.write

        def close(self) -> None: ...

    return Kept()
