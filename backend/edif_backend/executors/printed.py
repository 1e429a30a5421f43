"""What an executor says beside its result, taken for what it is worth: printed lines, bounded, and figures, checked.

Used by :mod:`~edif_backend.executors.pool`, outside the jail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edif_backend.executors import frames

#: Lines of output kept of one job, and their length in all.
_LOG_LINES, _LOG_BYTES = 2_000, 1 << 20


class Output:
    """What a job prints, as much of it as is kept."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said
        self._lines = self._bytes = 0
        self._cut = False

    def take(self, line: frames.Body) -> None:
        self._lines, self._bytes = self._lines + 1, self._bytes + len(line)
        if self._lines <= _LOG_LINES and self._bytes <= _LOG_BYTES:
            self._said(frames.text(line))
        elif not self._cut:
            self._cut = True
            self._said("(further output of this job is left out)")


def seconds_told(told: Any) -> dict[str, float]:
    """The timings an executor tells, as far as they are what they should be."""
    if not isinstance(told, dict):
        return {}
    return {name: told[name] for name in ("run", "pack") if _is_time(told.get(name))}


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and 0 <= value < 1e9
