"""What the ``edif course`` commands share: the register of this installation, the operator, moments as text.

Used by :mod:`edif_courses.command` and its two groups of commands.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated

import typer

from edif_backend.cli.acts import typed_by
from edif_backend.cli.console import say
from edif_backend.cli.located import find_installation
from edif_courses.desk import Desk, open_desk
from edif_courses.errors import Unusable
from edif_courses.hub_side import HubSide
from edif_courses.records import Person
from edif_courses.settings import CourseSettings
from edif_protocol.installation import PublicAddressSettings

OPERATOR = Person("operator", operator=True)

Id = Annotated[str, typer.Argument(help="Short name of the course.")]


def browsers_reach() -> str:
    """The address under which browsers reach this installation."""
    return PublicAddressSettings().browsers_reach(find_installation())


@contextmanager
def opened(*, ring: bool = False) -> Iterator[Desk]:
    """The register of this installation; with ``ring`` the hub is told afterwards, if it runs."""
    installation = find_installation()
    desk = open_desk(installation, CourseSettings(), typed_by=typed_by())
    try:
        yield desk
    finally:
        desk.close()
    if ring:
        hub = HubSide(installation)
        try:
            if not hub.ring():
                say("The hub does not run, or is busy: it follows when it does.")
        finally:
            hub.close()


def moment(option: str, text: str | None) -> float | None:
    """``2026-10-12`` or ``2026-10-12 18:00``, in UTC unless it says otherwise, as seconds since the epoch."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise Unusable(f'{option} {text!r} is not understood: write 2026-10-12 or "2026-10-12 18:00" (UTC).') from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
