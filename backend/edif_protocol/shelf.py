"""The shelf: where ``edif.keep`` puts a value and ``edif.kept`` finds it, whichever process a traced block runs in.

A server's executor has one that reaches out of the jail, while it runs a job; in a process without one,
:mod:`edif.keeping` has its own.  A shelf moves bytes: what they mean, only the process of their owner asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class ShelfRefused(Exception):
    """Nothing was kept, or nothing found; the sentence says why and what to do."""


class Shelf(Protocol):
    """The values of one user."""

    def put(self, name: str, write: Callable[[IO[bytes]], None]) -> None:
        """Keep what ``write`` writes as ``name``, in place of what had that name.

        Raises:
            ShelfRefused: it is not kept, and what had the name still is.
        """

    def get(self, name: str) -> IO[bytes]:
        """What was kept as ``name``, to be read from its beginning.

        Raises:
            ShelfRefused: there is no such value.
        """


def checked(name: object) -> str:
    """``name``, if it can be one.

    Raises:
        ShelfRefused: it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ShelfRefused(
            f"{str(name)[:80]!r} cannot be the name of a kept value: up to 64 letters, digits, dots, hyphens and"
            " underscores, the first one a letter or digit."
        )
    return name


def unknown(name: str, there: list[str]) -> ShelfRefused:
    """What is said of a name that nothing is kept as."""
    known = ", ".join(sorted(there)[:20]) + (" …" if len(there) > 20 else "")
    return ShelfRefused(
        f"Nothing is kept as {name!r}. " + (f"There is: {known}." if there else "Nothing is kept at all.")
    )


_installed: list[Shelf] = []  #: none or one; a trace that brings this module along does not change it


@contextmanager
def using(shelf: Shelf) -> Iterator[None]:
    """Make ``shelf`` the one of this process, for a while; afterwards it has none, as before."""
    _installed.append(shelf)
    try:
        yield
    finally:
        _installed.clear()


def installed() -> Shelf | None:
    """The shelf of this process, if it has one."""
    return _installed[0] if _installed else None
