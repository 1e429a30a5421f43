"""What an object store is: payloads and results by name, written piece by piece, read whole or in part.

Two of them keep the same promises (``tests/contracts/test_object_store.py``): a folder and any S3 service.  The gateway
stores payloads and serves results; replicas read payloads and write results; the dispatcher sweeps.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

#: ``kind/name``: two plain words, so that no name leads anywhere else.
_NAME = re.compile(r"(payloads|results|kept)/[0-9a-f]{32}(-[0-9]{1,4})?")
KINDS = ("payloads", "results", "kept")

#: What is read comes in pieces of this size.
PIECE_BYTES = 1 << 20

#: What counts as small where a store is near.
SMALL_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there."""

    name: str
    bytes: int
    stored_at: float  #: seconds since the epoch, UTC


class Objects(Protocol):
    """An object store.

    Every method raises :class:`ValueError` for what is not a name, :class:`FileNotFoundError` for an object that is not
    there, :class:`~edif_backend.errors.NotServing` when the store does not answer, and OSError when it is full.
    """

    #: Whether a small object is read or stored in no time, so that an event loop may do it: on a disk of this machine.
    near: bool

    def writer(self, name: str) -> ObjectWriter:
        """Store an object piece by piece; it appears, whole, when the ``with`` block ends without an error."""

    def write(self, name: str, data: bytes) -> None:
        """Store ``data`` whole."""

    def read(self, name: str) -> bytes:
        """The whole object."""

    def read_range(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """``length`` bytes from ``start`` on, in pieces; the object is opened before this returns."""

    def stat(self, name: str) -> Found:
        """How large it is and when it was stored."""

    def delete(self, name: str) -> None:
        """Remove the object; one that is not there is fine."""

    def listing(self, kind: str) -> Iterator[Found]:
        """All objects of a kind (of :data:`KINDS`), in no order."""


class ObjectWriter(Protocol):
    """An object being written."""

    written_bytes: int

    @property
    def sha256(self) -> str:
        """Of what was written so far, in hex."""

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None: ...


class Tally:
    """Length and checksum of what passes."""

    def __init__(self) -> None:
        self.written_bytes = 0
        self._hash = hashlib.sha256()

    def count(self, data: bytes | bytearray) -> None:
        """Add ``data``."""
        self._hash.update(data)
        self.written_bytes += len(data)

    @property
    def sha256(self) -> str:
        """Of all that was counted, in hex."""
        return self._hash.hexdigest()


def checked(name: str) -> str:
    """``name``, if it is one.

    Raises:
        ValueError: it is not the name of an object.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of an object.")
    return name
