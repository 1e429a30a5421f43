"""Who did what in the courses: lines of the installation's one audit log.

Written by the course service and the ``edif course`` command; read with all others by ``edif audit`` and the operator's
page, and by ``edif course log``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edif_protocol.audit_log import AuditLog

_ACTS = "course."


class Trail:
    """The acts of courses: each named ``course.…``, done to a course."""

    def __init__(self, audit: AuditLog, typed_by: str | None) -> None:
        self._audit = audit
        self._typed_by = typed_by  #: of the command; None for the pages

    def note(self, what: str, by: str, course: str, **more: Any) -> None:
        """Add a line: ``by`` did ``what`` in ``course``."""
        told = {name: _told(value) for name, value in more.items() if value is not None}
        via = "page" if self._typed_by is None else "command"
        self._audit.note(self._typed_by or by, f"{_ACTS}{what}", course, via=via, **told)

    def lines(self, course: str) -> Iterator[dict[str, Any]]:
        """All that was noted of ``course``, oldest first."""
        for line in self._audit.lines():
            try:
                found = json.loads(line)
            except ValueError:  # half a line of a machine that lost its power
                continue
            if found["act"].startswith(_ACTS) and found["on"] == course:
                yield found


def _told(value: Any) -> str | float | list[str]:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    if isinstance(value, list | tuple | set):
        return [str(one) for one in value]
    return value if isinstance(value, int | float) else str(value)
