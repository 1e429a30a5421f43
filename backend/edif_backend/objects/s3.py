"""The object store on any S3 service, through the ``minio`` SDK (blocking: callers use threads).

An object is uploaded in parts as it is written; S3 itself lets it appear whole or not at all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Self, cast
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from edif_backend.errors import NotServing
from edif_backend.objects.store import PIECE_BYTES, Found, ObjectWriter, Tally, checked

#: Size of the parts of an upload; S3 takes at least 5 MiB and at most 10,000 parts.
_PART_BYTES = 8 << 20
_MISSING = frozenset({"NoSuchKey", "NoSuchObject", "NoSuchBucket"})
_TIMEOUT = urllib3.Timeout(connect=5.0, read=60.0)


class S3Objects:
    """One bucket of an S3 service.

    Raises:
        NotServing: the service does not answer or refuses the keys.
    """

    near = False

    def __init__(self, endpoint: str, bucket: str, access_key: str, secret_key: str) -> None:
        address = urlsplit(endpoint)
        pool = urllib3.PoolManager(maxsize=16, timeout=_TIMEOUT, retries=urllib3.Retry(2, backoff_factor=0.2))
        self._client = Minio(
            address.netloc,
            access_key=access_key or None,
            secret_key=secret_key or None,
            secure=address.scheme == "https",
            http_client=pool,
        )
        self._bucket = bucket
        with _translated():
            if not self._client.bucket_exists(bucket_name=bucket):
                self._client.make_bucket(bucket_name=bucket)

    def writer(self, name: str) -> ObjectWriter:
        """Store an object piece by piece; it appears when the ``with`` block ends without an error."""
        return _UploadWriter(self._client, self._bucket, checked(name))

    def write(self, name: str, data: bytes) -> None:
        """Store ``data`` whole."""
        with self.writer(name) as writer:
            writer.write(data)

    def read(self, name: str) -> bytes:
        """The whole object."""
        with _translated():
            answer = self._client.get_object(bucket_name=self._bucket, object_name=checked(name))
            try:
                return answer.read()
            finally:
                answer.release_conn()

    def read_range(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """``length`` bytes from ``start`` on, in pieces."""
        length = min(length, self.stat(name).bytes - start)
        if length <= 0:
            return iter(())
        with _translated():
            answer = self._client.get_object(
                bucket_name=self._bucket, object_name=checked(name), offset=start, length=length
            )
        return _pieces(answer)

    def stat(self, name: str) -> Found:
        """How large it is and when it was stored."""
        with _translated():
            return _found(self._client.stat_object(bucket_name=self._bucket, object_name=checked(name)))

    def delete(self, name: str) -> None:
        """Remove the object; one that is not there is fine."""
        with _translated():
            self._client.remove_object(bucket_name=self._bucket, object_name=checked(name))

    def listing(self, kind: str) -> Iterator[Found]:
        """All objects of a kind."""
        with _translated():
            for entry in self._client.list_objects(bucket_name=self._bucket, prefix=f"{kind}/"):
                if not entry.is_dir:
                    yield _found(entry)


def _found(entry: Any) -> Found:
    return Found(entry.object_name, entry.size or 0, entry.last_modified.timestamp())


def _pieces(answer: Any) -> Iterator[bytes]:
    try:
        with _translated():
            while piece := answer.read(PIECE_BYTES):
                yield piece
    finally:
        answer.close()
        answer.release_conn()


@contextmanager
def _translated() -> Iterator[None]:
    """Errors of the SDK as those of an object store."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING:
            raise FileNotFoundError(error.code) from error
        raise NotServing(f"The object store refused ({error.code}); tell the operator, then try again.") from error
    except (MinioException, urllib3.exceptions.HTTPError) as error:
        raise NotServing("The object store does not answer; tell the operator, then try again.") from error


class _GivenUp(Exception):
    """The writer failed: the upload is to be aborted."""


class _UploadWriter(Tally):
    """An object being uploaded: the SDK reads, in a thread of its own, what is written here."""

    def __init__(self, client: Minio, bucket: str, name: str) -> None:
        super().__init__()
        self._pieces: queue.Queue[bytes | None] = queue.Queue(4)
        self._rest = b""
        self._ended = self._given_up = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._upload, args=(client, bucket, name), daemon=True)
        self._thread.start()

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``; waits while the service is slower.

        Raises:
            NotServing: the service has failed.
        """
        self.count(data)
        self._put(bytes(data))

    def _put(self, data: bytes | None) -> None:
        while self._thread.is_alive():
            try:
                self._pieces.put(data, timeout=0.5)
            except queue.Full:
                continue
            return
        if self._failure:
            raise self._failure

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._given_up = kind is not None
        if kind is None:
            self._put(None)
        else:
            while self._thread.is_alive():  # there may be no room for the end
                try:
                    self._pieces.put(None, timeout=0.05)
                except queue.Full:
                    continue
                break
        self._thread.join()
        if kind is None and self._failure:
            raise self._failure

    # -- in the thread --------------------------------------------------------

    def _upload(self, client: Minio, bucket: str, name: str) -> None:
        try:
            with _translated():
                client.put_object(
                    bucket_name=bucket,
                    object_name=name,
                    data=cast(BinaryIO, self),
                    length=-1,
                    part_size=_PART_BYTES,
                    num_parallel_uploads=1,
                )
        except (NotServing, OSError, _GivenUp) as error:
            self._failure = error

    def read(self, size: int = -1) -> bytes:
        """What the SDK calls: up to ``size`` bytes, empty at the end."""
        if not self._rest and not self._ended:
            piece = self._pieces.get()
            self._ended = piece is None
            self._rest = piece or b""
        if self._given_up and self._ended:
            raise _GivenUp
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken
