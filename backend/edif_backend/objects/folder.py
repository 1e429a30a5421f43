"""The embedded object store: one file an object, in a folder.

An object appears whole or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from edif_backend.objects.store import KINDS, PIECE_BYTES, Found, ObjectWriter, Tally, checked


class FolderObjects:
    """The object store of one installation, on its file system."""

    near = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for kind in KINDS:
            (folder / kind).mkdir(parents=True, exist_ok=True, mode=0o700)

    def _path(self, name: str) -> Path:
        return self._folder / checked(name)

    def writer(self, name: str) -> ObjectWriter:
        """Store an object piece by piece; it appears when the ``with`` block ends without an error."""
        return _FileWriter(self._path(name))

    def write(self, name: str, data: bytes) -> None:
        """Store ``data`` whole."""
        with self.writer(name) as writer:
            writer.write(data)

    def read(self, name: str) -> bytes:
        """The whole object."""
        return self._path(name).read_bytes()

    def read_range(self, name: str, start: int, length: int) -> Iterator[bytes]:
        """``length`` bytes from ``start`` on, in pieces."""
        return _pieces(self._path(name).open("rb", buffering=0), start, length)

    def stat(self, name: str) -> Found:
        """How large it is and when it was stored."""
        status = self._path(name).stat()
        return Found(name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        """Remove the object; one that is not there is fine."""
        self._path(name).unlink(missing_ok=True)

    def listing(self, kind: str) -> Iterator[Found]:
        """All objects of a kind."""
        for path in (self._folder / kind).iterdir():
            if not path.name.startswith("."):
                try:
                    yield self.stat(f"{kind}/{path.name}")
                except FileNotFoundError:
                    continue  # deleted meanwhile


def _pieces(file: BinaryIO, start: int, length: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while length > 0 and (piece := file.read(min(length, PIECE_BYTES))):
            length -= len(piece)
            yield piece


class _FileWriter(Tally):
    """An object being written."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        self._file = self._draft.open("xb", buffering=0)

    def write(self, data: bytes | bytearray) -> None:
        """Append ``data``."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.count(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._file.close()
        if kind is None:
            self._draft.replace(self._path)
        else:
            self._draft.unlink(missing_ok=True)
