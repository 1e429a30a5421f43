"""Consistent copies of SQLite databases that are in use, by SQLite's own backup; used by ``edif backup``.

Works on any file, the hub's too: what was committed when the copy was made is in it, whole, with the write-ahead log.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from edif_backend.errors import SetupFailed

_HEADER = b"SQLite format 3\x00"
_WAIT_S = 60.0


def is_database(path: Path) -> bool:
    """Whether ``path`` is a SQLite database, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def copy_database(source: Path, target: Path) -> None:
    """Copy the database ``source`` to the new file ``target``.

    Raises:
        SetupFailed: it is damaged, or locked for a minute.
    """
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, timeout=_WAIT_S)) as read,
            closing(sqlite3.connect(target)) as write,
        ):
            read.backup(write)
            found = write.execute("PRAGMA quick_check").fetchone()[0]
            write.execute("PRAGMA journal_mode=DELETE")  # one file, and no log beside it
    except sqlite3.Error as error:
        raise SetupFailed(f"The database {source} could not be copied: {error}.") from error
    if found != "ok":
        raise SetupFailed(f"The database {source} is damaged: {found}. Restore an earlier backup.")
