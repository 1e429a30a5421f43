"""The shipped notebooks in a user's home: brought up to date at each start, never over something the user did.

Called at the start of a user server and by its command "reset to original"; runs as the user.  A manifest in the home
remembers by digest what was shipped:

- a notebook that is new appears;
- one that its user has not touched is replaced by its new version;
- one that they have edited stays, and a new version is put beside it (``00_hello.new.ipynb``);
- one that they have deleted stays deleted.

``tutorials/originals`` holds them all as they came, in files that are read-only.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

MANIFEST = Path(".local") / "share" / "edif" / "tutorials.json"
FOLDER = "tutorials"
ORIGINALS = "originals"

_READ_ONLY = 0o444


@dataclass(slots=True)
class Delivery:
    """What has come of one delivery."""

    first_time: bool
    #: Names of new versions that were put beside edited notebooks.
    beside: list[str] = field(default_factory=list)


def ship_tutorials(source: Path, home: Path) -> Delivery:
    """Bring ``home/tutorials`` up to date with the notebooks in ``source``.

    Raises:
        OSError: the home cannot be written, such as when its disk is full; what was there is whole.
    """
    manifest = home / MANIFEST
    delivery = Delivery(first_time=not manifest.exists())
    known = _read(manifest)
    target = home / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for original in sorted(source.glob("*.ipynb")):
        _deliver(original, target, known, delivery)
    _keep_originals(source, target / ORIGINALS)
    _write(manifest, json.dumps(known, indent=1, sort_keys=True).encode())
    return delivery


def _deliver(original: Path, target: Path, known: dict[str, str], delivery: Delivery) -> None:
    """One notebook; ``known`` has the digest of the version last delivered, in its place or beside it."""
    copy, offered = target / original.name, known.get(original.name)
    content = original.read_bytes()
    newest = _digest(content)
    if copy.exists():
        here = _digest(copy.read_bytes())
        if newest in (here, offered):
            pass  # they have it, or had it and went on from there
        elif here == offered:
            _write(copy, content)
        else:
            delivery.beside.append(_put_beside(copy, content, known))
    elif offered is None:
        _write(copy, content)
    known[original.name] = newest


def _put_beside(copy: Path, content: bytes, known: dict[str, str]) -> str:
    """Put a new version beside an edited notebook, in place of an untouched one of before; gives its name."""
    number = 1
    while True:
        place = copy.with_name(f"{copy.stem}.new{'' if number == 1 else number}{copy.suffix}")
        if not place.exists() or _digest(place.read_bytes()) == known.get(place.name):
            _write(place, content)
            known[place.name] = _digest(content)
            return place.name
        number += 1


def reset(source: Path, home: Path, name: str, now_s: float | None = None) -> str | None:
    """Put the original of ``name`` back; what the user had made of it is kept under the name that is returned.

    Raises:
        FileNotFoundError: no such notebook is shipped.
    """
    originals = {path.name: path for path in source.glob("*.ipynb")}
    if name not in originals:
        raise FileNotFoundError(f"{name} is not one of the tutorials: {', '.join(sorted(originals))}.")
    content = originals[name].read_bytes()
    copy, kept = home / FOLDER / name, None
    copy.parent.mkdir(parents=True, exist_ok=True)
    if copy.exists() and copy.read_bytes() != content:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now_s))
        kept = copy.with_name(f"{copy.stem}.mine-{stamp}{copy.suffix}")
        copy.rename(kept)
    _write(copy, content)
    known = _read(home / MANIFEST)
    known[name] = _digest(content)
    _write(home / MANIFEST, json.dumps(known, indent=1, sort_keys=True).encode())
    return kept.name if kept else None


def _keep_originals(source: Path, folder: Path) -> None:
    """Make ``folder`` hold what is shipped and nothing else, read-only; what was changed there comes back."""
    wanted = {path.name: path.read_bytes() for path in source.glob("*.ipynb")}
    folder.mkdir(exist_ok=True)
    there = {path.name: path for path in folder.iterdir()}
    if {name: path.read_bytes() for name, path in there.items() if path.is_file()} == wanted:
        return
    for name, path in there.items():
        if name not in wanted and path.is_file():
            path.unlink()
    for name, content in wanted.items():
        _write(folder / name, content)
        (folder / name).chmod(_READ_ONLY)


def _write(path: Path, content: bytes) -> None:
    """Write the whole file, or leave the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _read(manifest: Path) -> dict[str, str]:
    """File name to digest; a missing or unreadable manifest claims nothing, so nothing existing is overwritten."""
    try:
        shipped = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in shipped.items()} if isinstance(shipped, dict) else {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
