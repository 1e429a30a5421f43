"""``edif backup`` and ``edif restore``: all that an installation keeps, in one file, and back.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell, the first also while everything runs.  In the
file: settings, secrets, the hub's and the jobs' databases, results and payloads, homes, the audit log.  Not in it:
models, which are fetched again, and what is kept elsewhere by setting (PostgreSQL, S3).  Databases are copied first, so
every result they name is still there when results are copied.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO

import typer

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import mebibytes, say
from edif_backend.cli.located import find_installation
from edif_backend.cli.processes import members
from edif_backend.errors import SetupFailed
from edif_backend.jobs.sqlite_copies import copy_database, is_database
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

_MANIFEST = "backup.json"
#: Made again, or of the running processes alone.
_LEFT_OUT = frozenset({"models", "logs", "run", "up.lock", "port", "hub/reserve"})
_LOGS_OF_DATABASES = ("-wal", "-shm", "-journal")
_ASIDE = "before-restore-"

Without = Annotated[bool, typer.Option(help="Leave them out.")]


def backup(
    file: Annotated[Path | None, typer.Argument(help="The file to write; named by the time if left out.")] = None,
    without_homes: Without = False,
    without_results: Without = False,
) -> None:
    """Write all that this installation keeps into one file, also while it runs. It holds secrets: keep it safe."""
    installation = find_installation()
    target = file or Path(f"edif-backup-{datetime.now(UTC):%Y%m%d-%H%M%S}.tar.gz")
    if target.exists():
        raise SetupFailed(f"{target} is there already; name another file.")
    left_out = set(_LEFT_OUT)
    if without_homes:
        left_out.add("hub/users")
    if without_results:
        left_out.add("objects")
    draft = target.with_name(f".{target.name}.draft")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as output:
            count = _write(installation, output, left_out, _elsewhere())
        draft.replace(target)
    except OSError as error:
        raise SetupFailed(f"{target} could not be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)
    note_act("backup.make", str(target))
    say(f"{count} files in {target} ({mebibytes(target.stat().st_size)}); `edif restore {target}` brings them back.")
    for sentence in _elsewhere():
        say(sentence)


def _elsewhere() -> list[str]:
    """What this installation keeps where a backup of files does not reach, as sentences."""
    settings, found = BackendSettings(), []
    if settings.database_url.get_secret_value():
        found.append("The jobs are in PostgreSQL and NOT in this file: take a pg_dump of that database just before it.")
    if settings.objects_endpoint:
        found.append("Results and payloads are in S3 and NOT in this file: copy the bucket after it.")
    return found


def _write(installation: Installation, output: BinaryIO, left_out: set[str], elsewhere: list[str]) -> int:
    """Write everything into ``output``; gives the number of files."""
    home, sums = installation.home, {}
    # Level 1: results hardly get smaller, and a backup should not take the machine for itself.
    with tarfile.open(fileobj=output, mode="w:gz", compresslevel=1) as archive, tempfile.TemporaryDirectory() as folder:
        files = list(_files(home, left_out))
        databases = [path for path in files if _is_database(path, home)]
        for number, path in enumerate(databases):
            copy = Path(folder) / str(number)
            copy_database(path, copy)
            shutil.copymode(path, copy)
            sums.update(_add(archive, copy, path.relative_to(home).as_posix()))
        for path in files:
            if path not in databases and not _belongs_to(path, databases):
                sums.update(_add(archive, path, path.relative_to(home).as_posix()))
        manifest = {
            "edif": version("edif"),
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "elsewhere": elsewhere,
            "left_out": sorted(left_out - _LEFT_OUT),
            "files": sums,
        }
        content = json.dumps(manifest, indent=1).encode()
        told = tarfile.TarInfo(_MANIFEST)
        told.size, told.mode = len(content), 0o600
        archive.addfile(told, io.BytesIO(content))
    return len(sums)


def _files(home: Path, left_out: set[str]) -> Iterator[Path]:
    """Files, links and folders below ``home``, folders before what is in them."""
    for parent, folders, names in os.walk(home):
        here = Path(parent)
        folders[:] = sorted(
            name
            for name in folders
            if (here / name).relative_to(home).as_posix() not in left_out and not name.startswith((_ASIDE, ".restore-"))
        )
        for name in (*folders, *sorted(names)):
            if (here / name).relative_to(home).as_posix() not in left_out:
                yield here / name


def _is_database(path: Path, home: Path) -> bool:
    """Whether it is a database of ours; those in homes are their users' files like all others."""
    ours = path.suffix == ".sqlite" and not path.is_relative_to(home / "hub" / "users")
    return ours and path.is_file() and is_database(path)


def _belongs_to(path: Path, databases: list[Path]) -> bool:
    return any(
        path.name == f"{one.name}{end}" and path.parent == one.parent for one in databases for end in _LOGS_OF_DATABASES
    )


class _Summed(io.RawIOBase):
    """Reads exactly so many bytes of a file that may shrink meanwhile, and sums them up."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left, self.sum = file, size, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        found = self._file.read(wanted).ljust(wanted, b"\0")
        self._left -= len(found)
        self.sum.update(found)
        return found


def _add(archive: tarfile.TarFile, path: Path, name: str) -> dict[str, str]:
    """Add one file, folder or link under ``name``; gives a file's checksum.  What has just gone is left out."""
    try:
        told = archive.gettarinfo(str(path), arcname=name)
        if told is None:  # a socket
            return {}
        if told.islnk():  # each file whole, also one with two names
            told.type, told.linkname = tarfile.REGTYPE, ""
        if not told.isreg():
            archive.addfile(told)
            return {}
        with path.open("rb") as file:
            told.size = os.fstat(file.fileno()).st_size
            summed = _Summed(file, told.size)
            archive.addfile(told, summed)
            return {name: summed.sum.hexdigest()}
    except FileNotFoundError:
        return {}


def restore(
    file: Annotated[Path, typer.Argument(help="A file of `edif backup`.")],
    replace: Annotated[bool, typer.Option("--replace", help="Put aside what this installation has now.")] = False,
) -> None:
    """Bring back all that a backup holds; the workbench must be stopped."""
    installation = find_installation()
    if members(installation):
        raise SetupFailed("The workbench is running: `edif down` first.")
    installation.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=".restore-", dir=installation.home))
    try:
        manifest = _unpack(file, draft)
        there = [path.name for path in sorted(draft.iterdir()) if (installation.home / path.name).exists()]
        if there and not replace:
            raise SetupFailed(
                f"{installation.home} has {', '.join(there)} already: with --replace they are put aside, not deleted."
            )
        aside = installation.home / f"{_ASIDE}{datetime.now(UTC):%Y%m%d-%H%M%S}"
        for name in there:
            aside.mkdir(exist_ok=True, mode=0o700)
            (installation.home / name).rename(aside / name)
        for path in sorted(draft.iterdir()):
            path.rename(installation.home / path.name)
        for name in manifest["left_out"]:  # what the backup never had stays as it is
            if (aside / name).exists():
                (aside / name).rename(installation.home / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    note_act("backup.restore", str(file))
    say(f"{len(manifest['files'])} files of {manifest['made_at']} are back; `edif up` starts the workbench with them.")
    if there:
        say(f"What was there before is in {aside}; remove it when you do not need it.")
    for sentence in manifest["elsewhere"]:
        say(sentence)


def _unpack(file: Path, folder: Path) -> dict[str, Any]:
    """Unpack into ``folder`` and compare every file with its checksum; gives the manifest.

    Raises:
        SetupFailed: it is no backup, or damaged; nothing of it counts.
    """
    sums: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    modes: list[tuple[Path, int]] = []
    try:
        with tarfile.open(file, "r:gz") as archive:
            for member in archive:
                _refuse_outside(member.name, file)
                if member.name == _MANIFEST:
                    content = archive.extractfile(member)
                    assert content is not None  # it is a file
                    manifest = json.loads(content.read())
                    continue
                archive.extract(member, folder, filter="fully_trusted")  # the operator's own, modes and links included
                place = folder / member.name
                if member.isdir():
                    modes.append((place, stat.S_IMODE(member.mode)))
                    place.chmod(0o700)  # until what is in it is there
                elif member.isreg():
                    with place.open("rb") as found:
                        sums[member.name] = hashlib.file_digest(found, "sha256").hexdigest()
    except FileNotFoundError:
        raise SetupFailed(f"There is no file {file}.") from None
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise SetupFailed(f"{file} cannot be read as a backup: {error}. Nothing was changed.") from error
    if manifest is None or manifest["files"] != sums:
        raise SetupFailed(f"{file} is not complete or was changed since it was made. Nothing was changed here.")
    for place, mode in reversed(modes):
        place.chmod(mode)
    return manifest


def _refuse_outside(name: str, file: Path) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise SetupFailed(f"{file} holds the name {name}, which no backup of eDIF does. Nothing was changed.")
