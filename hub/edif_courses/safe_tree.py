"""Files below folders that others can change meanwhile: read and placed without following a link out of them.

Called by :mod:`edif_courses.coursework`.  A student's folder is the student's: whatever stands in it may be a link to
somebody else's file, a pipe that never ends, or change its kind between a look and an open.  So every step goes from an
open folder to the next, links are never followed, and only what is a regular file once open is read.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edif_courses.errors import Nothing, NotNow, TooLarge, Unusable

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20
_DEPTH = 8
_NAME_BYTES = 200
#: Left behind by Jupyter and Python; nobody hands them in.
_SKIPPED = frozenset({".ipynb_checkpoints", "__pycache__", ".DS_Store", ".virtual_documents"})


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may be read."""

    file_bytes: int
    all_bytes: int
    files: int


@dataclass(frozen=True, slots=True)
class Copied:
    """One file of a copied tree."""

    path: str  #: below the folder, with slashes
    bytes: int
    sha256: str


def checked_name(name: str) -> str:
    """A file's name as it may stand in a folder of ours.

    Raises:
        Unusable: with the reason.
    """
    plain = name.strip()
    if not plain or plain in {".", ".."} or "/" in plain or "\\" in plain or not plain.isprintable():
        raise Unusable(f"The file name {name[:80]!r} cannot be used here.")
    if plain.startswith(".") or len(plain.encode()) > _NAME_BYTES:
        raise Unusable(f"The file name {plain[:80]!r} begins with a dot or is too long.")
    return plain


@contextmanager
def folder(root: Path, *parts: str, make: bool = False) -> Iterator[int]:
    """The open folder ``root/part/part…``; none of the parts is a link.

    Raises:
        Nothing: it does not exist.
        Unusable: a link, or no folder, stands in its place.
    """
    opened = os.open(root, _FOLDER & ~os.O_NOFOLLOW)  # the root's own place is the operator's
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, 0o770, dir_fd=opened)
            try:
                inner = os.open(part, _FOLDER, dir_fd=opened)
            except FileNotFoundError:
                raise Nothing(f"There is no folder {'/'.join(parts)} yet.") from None
            except OSError as error:
                raise Unusable(f"{'/'.join(parts)} is not a folder but something else: put it away.") from error
            os.close(opened)
            opened = inner
        yield opened
    finally:
        os.close(opened)


def copy_tree(source: int, target: Path, bounds: Bounds) -> list[Copied]:
    """Copy the regular files below the open folder ``source`` into the new folder ``target``.

    Raises:
        Unusable: a link, a pipe or the like lies there, or a name that cannot be kept.
        TooLarge: more than ``bounds``.
    """
    copied: list[Copied] = []
    left = bounds.all_bytes
    for path, found in _files(source, ()):
        try:
            if len(copied) == bounds.files:
                raise TooLarge(f"There are more than {bounds.files} files: take out what does not belong to the work.")
            most = min(bounds.file_bytes, left)
            into = target.joinpath(*path)
            into.parent.mkdir(parents=True, exist_ok=True)
            size, digest = _pour(found, into, most, "/".join(path), bounds)
        finally:
            os.close(found)
        left -= size
        copied.append(Copied("/".join(path), size, digest))
    return copied


def _pour(source: int, into: Path, most: int, name: str, bounds: Bounds) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with os.fdopen(os.open(into, _NEW, 0o640), "wb") as file:
        while chunk := os.read(source, _CHUNK):
            size += len(chunk)
            if size > most:
                raise TooLarge(
                    f"{name} is too large: a file may have {bounds.file_bytes // 2**20} MiB,"
                    f" all of them together {bounds.all_bytes // 2**20} MiB."
                )
            digest.update(chunk)
            file.write(chunk)
        os.fchmod(file.fileno(), 0o440)
    return size, digest.hexdigest()


def _files(opened: int, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every regular file, open; whoever asks closes it."""
    for name in sorted(os.listdir(opened)):
        if name in _SKIPPED or name.startswith("."):
            continue
        path = (*above, checked_name(name))
        if len(path) > _DEPTH:
            raise Unusable(f"{'/'.join(path)[:200]} lies too deep: {_DEPTH} folders at most.")
        try:
            found = os.open(name, _READ, dir_fd=opened)
        except FileNotFoundError:
            continue  # gone meanwhile
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Unusable(f"{'/'.join(path)} is a link: hand in the file itself.") from error
            raise Unusable(f"{'/'.join(path)} cannot be read ({error.strerror}).") from error
        mode = os.fstat(found).st_mode
        if stat.S_ISREG(mode):
            yield path, found
            continue
        try:
            if not stat.S_ISDIR(mode):
                raise Unusable(f"{'/'.join(path)} is neither a file nor a folder.")
            yield from _files(found, path)
        finally:
            os.close(found)


def place(into: int, name: str, content: bytes, beside: str) -> str | None:
    """Put a file into an open folder, never over another one: the name it got, None if the same is there already.

    Args:
        beside: what is added to the name when another file has it, such as ``release 2``.
    """
    path = PurePosixPath(name)
    for candidate in (name, *(f"{path.stem} ({beside}{again}){path.suffix}" for again in _AGAIN)):
        try:
            made = os.open(candidate, _NEW, 0o660, dir_fd=into)
        except FileExistsError:
            if _same(into, candidate, content):
                return None
            continue
        with os.fdopen(made, "wb") as file:
            file.write(content)
        return candidate
    raise NotNow(f"There are too many copies of {name} in your folder: put some away.")


_AGAIN = ("", *(f", {number}" for number in range(2, 30)))


def _same(into: int, name: str, content: bytes) -> bool:
    try:
        found = os.open(name, _READ, dir_fd=into)
    except OSError:
        return False
    with os.fdopen(found, "rb") as file:
        return stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.read(len(content) + 1) == content


def read_small(into: int, inner: str, name: str) -> str:
    """The text of ``inner/name`` below an open folder, at most 200 characters; nothing if it cannot be read."""
    try:
        opened = os.open(inner, _FOLDER, dir_fd=into)
    except OSError:
        return ""
    try:
        found = os.open(name, _READ, dir_fd=opened)
    except OSError:
        return ""
    finally:
        os.close(opened)
    with os.fdopen(found, "rb") as file:
        return file.read(200).decode("ascii", "replace") if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else ""


def holds(into: int, name: str) -> bool:
    """Whether anything of that name is in an open folder."""
    try:
        os.stat(name, dir_fd=into, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
