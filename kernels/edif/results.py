"""Large results: fetched in pieces, resumed where a connection broke, verified, and mapped instead of read.

Called by :mod:`edif.remote` for every result that comes as a link, and by users as ``edif.results.of(job)``; runs in
the user's process.  A result goes straight into a temporary file; its tensors are private views of that file, so the
memory it needs is that of the tensors alone, and only of those that are looked at.  The file is gone with the last one.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import itertools
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Protocol

import torch
import zstandard
from tqdm.auto import tqdm

from edif.errors import BackendUnreachable, EdifError
from edif.serving import ask
from edif.settings import ClientSettings

_PIECE_BYTES = 1 << 20
_TIMEOUT_S = 60.0
#: Tries in a row that bring no byte, and the first pause; the pauses double, and add up to half a minute.
_TRIES, _PAUSE_S = 10, 0.2
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_SHA256 = re.compile(r"sha-256=:([A-Za-z0-9+/=]+):")
_TOTAL = re.compile(r"bytes (\d+)-\d+/(\d+)")


class ResultDamaged(EdifError):
    """What arrived is not what the job left."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"The result did not arrive as the server wrote it: {why}. Nothing was loaded; fetch it again with"
            " `edif.results.of(job)`, or run the cell again."
        )


class ResultGone(EdifError):
    """The server does not have the result, or does not give it."""


def of(job: str, *, show: bool = True) -> dict[str, Any]:
    """The saved values of a job of yours that has ended.

    Raises:
        ResultGone: it has not ended, it failed, or its result is not kept any more.
        ResultDamaged: it did not arrive as it was written.
        BackendUnreachable: the gateway does not answer.
    """

    def link() -> str:
        answer = ask(f"/response/{job}")
        if not answer.get("data"):
            said = answer.get("description") or "it has no result"
            raise ResultGone(f"There is no result of job {job} ({answer.get('status')}): {said}")
        return str(answer["data"])

    return fetch(link(), renew=link, show=show)


def fetch(url: str, *, renew: Callable[[], str], show: bool) -> dict[str, Any]:
    """Download, verify and map the result behind ``url``; ``renew`` gives a new link when this one has ended.

    Raises:
        ResultGone, ResultDamaged, BackendUnreachable: as for :func:`of`.
    """
    with tempfile.NamedTemporaryFile(prefix="edif-result-") as file:
        try:
            with tqdm(desc="⬇ Downloading result", unit="B", unit_scale=True, disable=not show) as bar:
                Download(url, renew, _Unpacked(file), bar).run()
        except zstandard.ZstdError as error:
            raise ResultDamaged("it cannot be decompressed") from error
        file.flush()
        # The mapping outlives the file's name.  Unpickling is the user's own result, and it was verified above.
        values: dict[str, Any] = torch.load(file.name, map_location="cpu", weights_only=False, mmap=True)
    return values


class Bar(Protocol):
    """What a download tells its progress to."""

    total: float | None

    def update(self, n: float) -> Any:
        """``n`` more bytes have arrived."""


class Download:
    """One result on its way, however many connections that takes.

    Args:
        url: the signed link.
        renew: gives a new link to the same result.
        target: takes the bytes, in order, each once.
        bar: is told how far it is.
    """

    def __init__(self, url: str, renew: Callable[[], str], target: Target, bar: Bar) -> None:
        self._url = url
        self._renew = renew
        self._target = target
        self._bar = bar
        self._etag = ""
        self._sha256 = b""
        self._size: int | None = None
        self._received = 0
        self._hash = hashlib.sha256()
        self._hashing: Future[None] | None = None  # of the last piece, beside what else is done with it

    def run(self) -> None:
        """Fetch it all.

        Raises:
            ResultGone, ResultDamaged, BackendUnreachable: as for :func:`of`.
        """
        with ThreadPoolExecutor(1, "checksum") as self._thread:
            self._fetch()
        if self._sha256 and self._hash.digest() != self._sha256:
            raise ResultDamaged("its checksum is another one")
        self._target.close()

    def _fetch(self) -> None:
        tries = 0
        while self._size is None or self._received < self._size:
            before = self._received
            try:
                self._fetch_rest()
            except urllib.error.HTTPError as error:
                with error:
                    self._refused(error, tries)
            except (OSError, http.client.HTTPException):
                pass  # cut: go on from the last byte that came
            tries = 0 if self._received > before else tries + 1
            if tries >= _TRIES:
                raise BackendUnreachable(ClientSettings().host)
            if tries:
                time.sleep(min(_PAUSE_S * 2 ** (tries - 1), 5.0))

    def _fetch_rest(self) -> None:
        headers = {"Range": f"bytes={self._received}-", "If-Range": self._etag} if self._received else {}
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - the gateway's own link
        buffers = itertools.cycle([memoryview(bytearray(_PIECE_BYTES)) for _ in range(2)])
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
            skip = self._begin(answer)
            while count := answer.readinto(buffer := next(buffers)):
                self._take(buffer[min(skip, count) : count])
                skip -= min(skip, count)
            if self._size is None:  # a server that does not say how much there is
                self._size = self._received

    def _begin(self, answer: http.client.HTTPResponse) -> int:
        """Read the answer's headers; gives how many of its bytes are here already."""
        etag = answer.headers.get("ETag", "")
        if self._etag and etag != self._etag:
            raise ResultDamaged("it changed while it was fetched")
        self._etag = etag
        if found := _SHA256.search(answer.headers.get("Repr-Digest", "")):
            self._sha256 = base64.b64decode(found[1])
        span = _TOTAL.fullmatch(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
        length = span[2] if span else answer.headers.get("Content-Length")
        self._size = int(length) if length else None
        self._bar.total = self._size
        start = int(span[1]) if span else 0
        if start > self._received:
            raise ResultDamaged("a part was left out")
        return self._received - start

    def _take(self, data: memoryview) -> None:
        if self._hashing:
            self._hashing.result()  # so the other buffer is free when this one is full
        self._hashing = self._thread.submit(self._hash.update, data)
        self._received += len(data)
        self._target.write(data)
        self._bar.update(len(data))

    def _refused(self, error: urllib.error.HTTPError, tries: int) -> None:
        if error.code in (401, 403) and not tries:
            self._url = self._renew()
        elif error.code < 500:
            raise ResultGone(f"The server does not give the result any more ({error.code}); run the cell again.")


class Target(Protocol):
    """Where a result goes."""

    def write(self, data: memoryview) -> Any:
        """Take the next bytes."""

    def close(self) -> None:
        """All bytes have come."""


class _Unpacked:
    """Writes a result into a file, without its zstd frame if it has one."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._head = b""
        self._writer: Any = None

    def write(self, data: memoryview) -> None:
        if self._writer is None:
            self._head += data
            if len(self._head) < len(_ZSTD_MAGIC):
                return
            data, compressed = memoryview(self._head), self._head.startswith(_ZSTD_MAGIC)
            unpack = zstandard.ZstdDecompressor()
            self._writer = (
                unpack.stream_writer(self._file, write_size=_PIECE_BYTES, closefd=False) if compressed else self._file
            )
        self._writer.write(data)

    def close(self) -> None:
        self._file.flush()
