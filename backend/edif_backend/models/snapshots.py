"""Snapshots: the files of one model on disk, complete and checked, or not there at all.

``find`` is cheap and is what gateway and replicas ask; ``prepare`` makes a snapshot present and is run by
``python -m edif_backend.models`` and wherever a model is about to be loaded.  A snapshot is made in a hidden folder
next to its place and renamed there, with a manifest of checksums; a lock file keeps two processes from making the same.
Importing this module imports no torch: the module that makes a snapshot is imported when one is to be made.

A folder may be copied or hard-linked to another installation: the manifest in it goes along.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib
import json
import math
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from edif_backend.errors import ModelUnusable
from edif_backend.models.catalogue import DEFAULT_REVISION, ModelEntry

MANIFEST = "edif-snapshot.json"  #: what belongs to the snapshot; written last
VERIFIED = "edif-verified.json"  #: size and time of each file when its checksum was last found right
RECIPE = 1  #: raised when our own models are to be made anew because the way they are made changed

Say = Callable[[str], None]  #: takes one line of progress, for people

# Each has ``build(entry, folder, say) -> str | None``: fills ``folder``, gives the commit if the source has one.
_SOURCES = {
    "demo": "edif_backend.models.smollm2_demo",
    "tiny": "edif_backend.models.tiny_gpt2",
    "tiny-lora": "edif_backend.models.tiny_lora",
    "hub": "edif_backend.models.hub_download",
}


class FileRecord(BaseModel):
    """One file of a snapshot."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a snapshot consists of and where it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    source: str
    repo: str
    revision: str
    recipe: int
    commit: str  #: 40 hexadecimal digits: the Hub's commit, or a digest of the files
    parameters: dict[str, int]  #: parameters by dtype, in the words of safetensors (``{"F32": 134515008}``)
    files: dict[str, FileRecord]  #: by path inside the snapshot, with ``/``


@dataclass(frozen=True)
class Snapshot:
    """The files of ``entry``, complete, in ``folder``."""

    entry: ModelEntry
    folder: Path
    manifest: Manifest

    @property
    def commit(self) -> str:
        """40 hexadecimal digits."""
        return self.manifest.commit

    def answers_to(self, revision: str | None) -> bool:
        """Whether somebody who asks for ``revision`` means this snapshot."""
        return revision in (None, DEFAULT_REVISION, self.entry.revision, self.commit)


def folder_of(entry: ModelEntry, models_dir: Path) -> Path:
    """Where the snapshot of ``entry`` is or will be."""
    return models_dir / entry.id.replace("/", "--")


def find(entry: ModelEntry, models_dir: Path) -> Snapshot | None:
    """The snapshot of ``entry`` if it is there with all its files in their right sizes (contents are not read)."""
    folder = folder_of(entry, models_dir)
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    wanted = (entry.id, entry.source, entry.repo, entry.revision, RECIPE)
    if (manifest.id, manifest.source, manifest.repo, manifest.revision, manifest.recipe) != wanted:
        return None
    stamps = _stamps(folder, manifest)
    if any(stamps.get(name, [-1])[0] != record.bytes for name, record in manifest.files.items()):
        return None
    return Snapshot(entry, folder, manifest)


def complete(entry: ModelEntry, models_dir: Path) -> Snapshot | None:
    """The snapshot of ``entry`` if it and those of all its adapters are there."""
    if all(find(adapter, models_dir) for adapter in entry.adapter_entries):
        return find(entry, models_dir)
    return None


def prepare(entry: ModelEntry, models_dir: Path, say: Say, *, verify: bool = False) -> Snapshot:
    """The snapshot of ``entry``, and of each of its adapters; see :func:`prepare_one`."""
    for adapter in entry.adapter_entries:
        files = prepare_one(adapter, models_dir, say, verify=verify).manifest.files
        if not {"adapter_config.json", "adapter_model.safetensors"} <= files.keys():
            raise ModelUnusable(
                f"{adapter.id}, named as an adapter of {entry.id}, has no adapter_config.json or no "
                "adapter_model.safetensors: only PEFT adapters in safetensors are taken."
            )
    return prepare_one(entry, models_dir, say, verify=verify)


def prepare_one(entry: ModelEntry, models_dir: Path, say: Say, *, verify: bool = False) -> Snapshot:
    """The snapshot of ``entry``, made or mended first if need be; may take minutes.

    Checksums are computed when a file's size or time differs from when they were last right, or with ``verify``.

    Raises:
        ModelUnusable: with what the operator must mend (network, disk, package).
    """
    if (place := folder_of(entry, models_dir)).is_symlink():
        raise ModelUnusable(
            f"{entry.id}: {place} is a symbolic link, which executors cannot follow out of their walls: "
            "put the files there, or mount their disk there (mount --bind)."
        )
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        with _locked(models_dir / f".{folder_of(entry, models_dir).name}.lock", entry, say):
            found = find(entry, models_dir)
            if found and _intact(found, verify, say):
                return found
            if folder_of(entry, models_dir).exists():
                say(f"{entry.id}: the files on disk are damaged or out of date, making them anew")
            return _make(entry, models_dir, say)
    except PermissionError as error:
        raise ModelUnusable(
            f"{entry.id} cannot be made ready because {error.filename} may not be written or read: "
            "run this as the user who owns the installation."
        ) from error
    except Exception as error:  # whichever library met the full disk, the operator needs the same sentence
        if not _is_disk_full(error):
            raise
        raise ModelUnusable(
            f"{entry.id} cannot be made ready because the disk under {models_dir} is full: "
            "free some space, then try again."
        ) from error


def need_space(folder: Path, entry: ModelEntry, needed_bytes: int) -> None:
    """Raise ModelUnusable unless the disk under ``folder`` has room for ``needed_bytes``."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ModelUnusable(
            f"{entry.id} needs {needed_bytes / 1e6:,.0f} MB under {folder.parent}, but there are "
            f"{free / 1e6:,.0f} MB left: free some space, then try again."
        )


def _make(entry: ModelEntry, models_dir: Path, say: Say) -> Snapshot:
    draft = models_dir / f".{folder_of(entry, models_dir).name}.making"
    _drop_unless_download(draft, entry)  # what a killed process left
    try:
        draft.mkdir(exist_ok=True)
        commit = importlib.import_module(_SOURCES[entry.source]).build(entry, draft, say)
        say(f"{entry.id}: computing checksums")
        manifest = _manifest(entry, draft, commit)
        (draft / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        _write_stamps(draft, manifest)
        _sync(draft)
        _put_in_place(draft, folder_of(entry, models_dir))
    finally:
        _drop_unless_download(draft, entry)
    say(f"{entry.id}: ready")
    return Snapshot(entry, folder_of(entry, models_dir), manifest)


def _drop_unless_download(draft: Path, entry: ModelEntry) -> None:
    """A half-finished download is gone on with, anything else starts afresh."""
    if entry.source != "hub":
        shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, place: Path) -> None:
    """Rename ``draft`` to ``place``; a process that has mapped files of the old folder keeps them."""
    discarded = draft.with_suffix(".discarded")
    shutil.rmtree(discarded, ignore_errors=True)
    if place.exists():
        place.rename(discarded)
    draft.rename(place)
    shutil.rmtree(discarded, ignore_errors=True)


def _manifest(entry: ModelEntry, folder: Path, commit: str | None) -> Manifest:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise ModelUnusable(f"{entry.id}: {path} is a symbolic link, which no snapshot may hold.")
        if path.is_file() and path.name not in (MANIFEST, VERIFIED):
            path.chmod(0o644)  # safetensors writes 600, and executors need not run as the owner
            files[path.relative_to(folder).as_posix()] = FileRecord(bytes=path.stat().st_size, sha256=_sha256(path))
    digest = hashlib.sha256("".join(f"{name}\0{record.sha256}\n" for name, record in files.items()).encode())
    return Manifest(
        id=entry.id,
        source=entry.source,
        repo=entry.repo,
        revision=entry.revision,
        recipe=RECIPE,
        commit=commit or digest.hexdigest()[:40],
        parameters=_parameters(folder, files),
        files=files,
    )


def _parameters(folder: Path, files: Iterable[str]) -> dict[str, int]:
    """Parameters by dtype, from the headers of the safetensors files."""
    counts: dict[str, int] = {}
    for _, dtype, shape in _headers(folder, files):
        counts[dtype] = counts.get(dtype, 0) + math.prod(shape)
    return counts


def tensors_of(snapshot: Snapshot) -> Iterator[tuple[str, str, list[int]]]:
    """Name, dtype and shape of every tensor, from the headers of the safetensors files.

    Raises:
        ModelUnusable: a file is damaged.
    """
    yield from _headers(snapshot.folder, snapshot.manifest.files)


def _headers(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, str, list[int]]]:
    for name in files:
        if not name.endswith(".safetensors"):
            continue
        try:
            with (folder / name).open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header: dict[str, Any] = json.loads(file.read(length))
        except (OSError, ValueError, OverflowError, MemoryError, struct.error) as error:
            raise ModelUnusable(
                f"The weights in {folder / name} are damaged ({error}): fetch them again with "
                "`python -m edif_backend.models prepare --verify`."
            ) from error
        header.pop("__metadata__", None)
        for tensor, found in header.items():
            yield tensor, found["dtype"], found["shape"]


def _intact(snapshot: Snapshot, verify: bool, say: Say) -> bool:
    """Whether the contents are what the manifest says; unchanged files are believed unless ``verify``."""
    stamps = _stamps(snapshot.folder, snapshot.manifest)
    if not verify and stamps == _read_stamps(snapshot.folder):
        return True
    say(f"{snapshot.entry.id}: checking files")
    for name, record in snapshot.manifest.files.items():
        if _sha256(snapshot.folder / name) != record.sha256:
            say(f"{snapshot.entry.id}: {name} is damaged")
            return False
    _write_stamps(snapshot.folder, snapshot.manifest)
    return True


def _stamps(folder: Path, manifest: Manifest) -> dict[str, list[int]]:
    """Size and modification time of each file that is there."""
    stamps = {}
    for name in manifest.files:
        try:
            status = (folder / name).stat()
        except OSError:
            continue
        stamps[name] = [status.st_size, status.st_mtime_ns]
    return stamps


def _read_stamps(folder: Path) -> object:
    try:
        return json.loads((folder / VERIFIED).read_bytes())
    except (OSError, ValueError):
        return None


def _write_stamps(folder: Path, manifest: Manifest) -> None:
    draft = folder / f"{VERIFIED}.new"  # replaced, not rewritten: the folder may be a hard-linked copy
    draft.write_text(json.dumps(_stamps(folder, manifest)), encoding="utf-8")
    draft.replace(folder / VERIFIED)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Put the files on the disk before the rename does: after a power cut the snapshot is whole or absent."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def _locked(path: Path, entry: ModelEntry, say: Say) -> Iterator[None]:
    """Hold the lock file; the kernel gives it up if this process dies."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{entry.id}: waiting for another process that makes it ready")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return f"(os error {errno.ENOSPC})" in str(error)  # how Rust libraries (safetensors, tokenizers) word it
