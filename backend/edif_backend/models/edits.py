"""Changes of ``models.toml`` on the operator's word; comments, order and spacing of the file stay as they are.

Called by ``edif models add|pin|unpin``.  What would make the file invalid is refused and not written.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Comment, Table, Whitespace

from edif_backend.errors import CatalogueInvalid
from edif_backend.models.catalogue import Catalogue, ModelEntry


def add(path: Path, id: str, keys: Mapping[str, str | int | bool]) -> ModelEntry:
    """Put a table for ``id`` at the end of the file.

    Raises:
        CatalogueInvalid: there is such a table, or the file would not be valid with it; nothing was changed.
    """
    with _editing(path) as text:
        if any(entry.id.casefold() == id.casefold() for entry in Catalogue.load(path).entries):
            raise CatalogueInvalid(f"{id} is in {path} already: change it there, or `edif models pin {id}`.")
        _replace(path, f"{text.rstrip()}\n\n{tomlkit.dumps({'models': {id: dict(keys)}})}")
    return Catalogue.load(path).entry(id)


def set_pinned(path: Path, id: str, pinned: bool) -> ModelEntry:
    """Set the key ``pinned`` of a model.

    Raises:
        ModelUnknown: there is no such model.
        CatalogueInvalid: the file is not valid; nothing was changed.
    """
    with _editing(path) as text:
        entry = Catalogue.load(path).entry(id)
        try:
            document = tomlkit.parse(text)
            _set(document["models"][entry.id], "pinned", pinned)
        except (TOMLKitError, TypeError) as error:
            raise CatalogueInvalid(f"{path} cannot be changed by a program ({error}): change it by hand.") from error
        _replace(path, tomlkit.dumps(document))
    return Catalogue.load(path).entry(id)


def _set(table: Table, key: str, value: bool) -> None:
    """Set a key; a new one goes after the last key, not below the comments and blank lines that follow."""
    body = table.value.body
    after: list[Comment | Whitespace] = []
    while key not in table and body and isinstance(item := body[-1][1], Comment | Whitespace):
        after.append(item)
        body.pop()
    table[key] = value
    for kept in reversed(after):
        table.add(kept)


@contextmanager
def _editing(path: Path) -> Iterator[str]:
    """The file's text, while no other command changes it."""
    try:
        with (path.parent / f".{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CatalogueInvalid(f"There is no catalogue of models at {path}: `edif up` writes one.") from None
    except OSError as error:
        raise CatalogueInvalid(f"{path} cannot be changed: {error.strerror}.") from error


def _replace(path: Path, text: str) -> None:
    """Write the whole file anew, or not at all; readers see the old one or the new one."""
    with NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False) as draft:
        draft.write(text)
    new = Path(draft.name)
    try:
        Catalogue.load(new)
        new.chmod(path.stat().st_mode & 0o777)
        new.replace(path)
    except CatalogueInvalid as error:
        raise CatalogueInvalid(str(error).replace(os.fspath(new), os.fspath(path))) from None
    finally:
        new.unlink(missing_ok=True)
