"""Who did what: one line of JSON for each act, appended to a file of its month and never changed.

Written by the hub (servers, keys), the gateway (the operator's page), the courses (``course.…``) and the ``edif``
command, each in its own process: a line is appended in one write, so lines of several processes do not mix.  What
cannot be written goes to standard error.  It holds names and ids, no key and no content of a job.  Read by ``edif
audit``, ``edif course log`` and the operator's page.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

#: Longest text of one field: what a user has typed may be part of it.
_CHARACTERS = 500


class AuditLog:
    """The acts of one installation, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, by: str, act: str, on: str = "", *, via: str, **more: str | float | list[str]) -> None:
        """Write down that ``by`` has done ``act``.

        Args:
            by: name of the user, or ``account NAME`` for whoever typed a command on this machine.
            act: such as ``server.stop``, ``model.evict``: what it is about, a dot, and what was done.
            on: name or id of that which it was done to.
            via: ``hub``, ``page`` or ``command``.
        """
        now = datetime.now(UTC)
        act_line = {"at": now.isoformat(timespec="milliseconds"), "by": by, "act": act, "on": on, "via": via, **more}
        line = json.dumps({name: _short(value) for name, value in act_line.items()}, ensure_ascii=False) + "\n"
        try:
            self._append(f"{now:%Y-%m}.jsonl", line.encode("utf-8", "replace"))
        except (
            OSError
        ) as error:  # a full disk must not keep anybody from what they do; the process has a log of its own
            sys.stderr.write(f"not written to the audit log ({error.strerror}): {line}")

    def _append(self, name: str, line: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)

    def lines(self) -> Iterator[str]:
        """Every line, the oldest first, as it was written."""
        for file in sorted(self._folder.glob("*.jsonl")):
            with file.open(encoding="utf-8", errors="replace") as text:
                yield from (line.rstrip("\n") for line in text)

    def newest(self, count: int, by: str = "", act: str = "") -> list[dict[str, str]]:
        """The newest acts first; of one person, or of acts that begin with ``act``, if these are given."""
        found: list[dict[str, str]] = []
        for file in sorted(self._folder.glob("*.jsonl"), reverse=True):
            for line in reversed(file.read_text(encoding="utf-8", errors="replace").splitlines()):
                try:
                    told = json.loads(line)
                except ValueError:  # half a line of a machine that lost its power
                    continue
                if (not by or told["by"] == by) and told["act"].startswith(act):
                    found.append(told)
                    if len(found) == count:
                        return found
        return found


def _short(value: str | float | list[str]) -> str | float | list[str]:
    """A text cut to its longest, also in a list; who is in a list is never left out."""
    if isinstance(value, list):
        return [one[:_CHARACTERS] for one in value]
    return value[:_CHARACTERS] if isinstance(value, str) else value
