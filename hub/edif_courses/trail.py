"""Who did what in the courses: one JSON object a line, only ever added to.

Written by the course service and the ``edif course`` command, read by whoever must account for it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Trail:
    """The audit log of one installation's courses (mode 600; an append of one line is one write)."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock

    def note(self, what: str, by: str, course: str, **more: Any) -> None:
        """Add a line: ``by`` did ``what`` in ``course``."""
        at = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="milliseconds")
        line = json.dumps({"at": at, "what": what, "by": by, "course": course, **more}, ensure_ascii=True)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def lines(self, course: str) -> Iterator[dict[str, Any]]:
        """All that was noted of ``course``, oldest first."""
        try:
            text = self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            found = json.loads(line)
            if found["course"] == course:
                yield found
