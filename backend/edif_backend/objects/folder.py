"""The embedded object store: one file an object, in a folder.

The gateway stores payloads and serves results; replicas read payloads and write results.  An object appears whole or
not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from types import TracebackType
from typing import Self

#: ``kind/name``: two plain words, so that no name leads anywhere else.
_NAME = re.compile(r"(payloads|results)/[0-9a-f]{32}(-[0-9]{1,4})?")


class Objects:
    """The object store of one installation, on its file system."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in ("payloads", "results"):
            (folder / kind).mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """Where the object is.

        Raises:
            ValueError: ``name`` is not the name of an object.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of an object.")
        return self._folder / name

    def write(self, name: str, data: bytes) -> None:
        """Store ``data`` whole."""
        with self.writer(name) as writer:
            writer.write(data)

    def writer(self, name: str) -> ObjectWriter:
        """Store an object piece by piece; it appears when the ``with`` block ends without an error."""
        return ObjectWriter(self.path(name))

    def read(self, name: str) -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: there is no such object.
        """
        return self.path(name).read_bytes()

    def delete(self, name: str) -> None:
        """Remove the object; one that is not there is fine."""
        self.path(name).unlink(missing_ok=True)


class ObjectWriter:
    """An object being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._file = self._draft.open("xb")
        self.written_bytes = 0

    def write(self, data: bytes) -> None:
        """Append ``data``."""
        self._file.write(data)
        self.written_bytes += len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._draft.replace(self._path)
        else:
            self._draft.unlink(missing_ok=True)
