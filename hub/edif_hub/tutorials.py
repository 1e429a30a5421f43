"""The shipped notebooks in a user's home: copied when the server starts, never over something the user did.

Called by the spawner's hooks (:mod:`edif_hub.server`); runs in the hub's process.  A manifest in the home remembers the
digest of what was shipped: a file that still has that digest is brought up to date, an edited one is left alone, and a
deleted one stays deleted.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

MANIFEST = Path(".local") / "share" / "edif" / "tutorials.json"
FOLDER = "tutorials"


def ship_tutorials(source: Path, home: Path) -> bool:
    """Bring ``home/tutorials`` up to date with the notebooks in ``source``; whether this was the first time."""
    manifest = home / MANIFEST
    shipped = _read(manifest)
    target = home / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    for original in sorted(source.glob("*.ipynb")):
        copy = target / original.name
        before = shipped.get(original.name)
        untouched = _digest(copy) == before if copy.exists() else before is None
        if untouched:
            shutil.copyfile(original, copy)
            shipped[original.name] = _digest(original)
    first_time = not manifest.exists()
    manifest.parent.mkdir(parents=True, exist_ok=True)
    draft = manifest.with_suffix(".draft")
    draft.write_text(json.dumps(shipped, indent=1, sort_keys=True), encoding="utf-8")
    draft.replace(manifest)
    return first_time


def _read(manifest: Path) -> dict[str, str]:
    """File name to digest; a missing or unreadable manifest claims nothing, so nothing existing is overwritten."""
    try:
        shipped = json.loads(manifest.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in shipped.items()} if isinstance(shipped, dict) else {}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
