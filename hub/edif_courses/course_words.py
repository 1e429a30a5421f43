"""Moments and spans in the tables of the ``edif course`` command, in UTC.

Used by :mod:`edif_courses.command` and its groups of commands.
"""

from __future__ import annotations

from datetime import UTC, datetime


def day(at: float) -> str:
    """``2026-10-12``."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def minute(at: float | None) -> str:
    """``2026-10-12 18:00``, nothing for None."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}" if at is not None else ""


def hours(seconds: float | None) -> str:
    """``1.5 h``, nothing for none."""
    return f"{seconds / 3600:.1f} h" if seconds else ""
