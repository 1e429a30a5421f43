"""What earlier loads of a model have shown: how long one takes, and what its jobs need.

Kept beside the model's files, for each dtype; a new revision is another folder.  Written by the replica's process, read
there and by the dispatcher.  Nothing depends on it being there.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from edif_backend.models.catalogue import ModelEntry
from edif_backend.models.peaks import Profile

log = structlog.get_logger(__name__)

_MANNER = 1  #: raised when all of it is to be found out anew because the way it is measured has changed


class Experience(BaseModel):
    """What is known; None for what is not yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    load_s: float | None = None  #: from the start of the process until it can take jobs
    profile: Profile | None = None


def experience_with(entry: ModelEntry, folder: Path) -> Experience:
    """What is known of ``entry``, whose snapshot is in ``folder``."""
    try:
        return Experience.model_validate_json(_place(entry, folder).read_bytes())
    except (OSError, ValidationError):
        return Experience()


def remember(entry: ModelEntry, folder: Path, **news: Any) -> None:
    """Keep what has been found out, beside what is known already; without room for it, it is forgotten."""
    place = _place(entry, folder)
    draft = place.with_suffix(f".{os.getpid()}.new")
    try:
        draft.write_text(experience_with(entry, folder).model_copy(update=news).model_dump_json(), encoding="utf-8")
        draft.replace(place)
    except OSError as error:
        log.warning("experience with a model cannot be kept", model=entry.id, reason=error.strerror)


def _place(entry: ModelEntry, folder: Path) -> Path:
    return folder / f"edif-experience-{_MANNER}-{entry.dtype}.json"
