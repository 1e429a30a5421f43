"""What each user may use, as the operator says now: ``edif.toml``, what commands have set, and reservations.

Used by the gateway (judges requests) and the dispatcher (weights, running jobs), each with one of its own.  The file
is followed while it runs, and so is the database; a file that is not valid changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError

from edif_backend.errors import LimitsNotUnderstood, SetupFailed
from edif_backend.jobs.job import Reservation
from edif_backend.jobs.reading import Reading
from edif_backend.settings import Limits, LimitSettings

log = structlog.get_logger(__name__)

#: Fields whose 0 means "no limit", the most generous value there is.
_ENDLESS = frozenset({"queued_jobs", "running_jobs", "payload_bytes", "stored_bytes", "device_seconds_per_day"})
#: How old what is known of file and database may be.
_FRESH_S = 1.0


class Policy:
    """Limits and weights of users.

    Args:
        file: ``edif.toml``; it may be missing.
        read: reads it, with the variables of this process over it.

    Raises:
        SetupFailed: the file is not valid to begin with.
    """

    def __init__(self, file: Path, jobs: Reading, read: Callable[[], LimitSettings] = LimitSettings) -> None:
        self._file = file
        self._jobs = jobs
        self._read = read
        self.problem = ""  #: why the file as it stands is not followed, or nothing
        self._stamp = _stamp(file)
        self._settings = _settings(read)
        self._set: Mapping[str, Mapping[str, Any]] = {}
        self._reservations: Sequence[Reservation] = ()
        self._looked_at = float("-inf")

    def limits(self, user: str, groups: Iterable[str]) -> Limits:
        """What counts for a user: of several groups the most generous value, unless the user's own is said."""
        self._refresh()
        return merged(
            Limits.model_construct(**{name: getattr(self._settings, name) for name in Limits.model_fields}),
            [self._of("group", group, self._settings.groups) for group in groups],
            self._of("user", user, self._settings.users),
        )

    def said(self) -> dict[str, dict[str, Any]]:
        """All that is said: every value for ``everybody``, and those of each ``group:NAME`` and ``user:NAME``."""
        self._refresh()
        files = {f"group:{name}" for name in self._settings.groups} | {f"user:{name}" for name in self._settings.users}
        found = {"everybody": self.limits("", []).model_dump()}
        for subject in sorted(files | set(self._set)):
            kind, _, name = subject.partition(":")
            found[subject] = self._of(kind, name, self._settings.groups if kind == "group" else self._settings.users)
        return found

    def weight(self, user: str, groups: Iterable[str]) -> float:
        """The user's weight now, in the time of a reservation at least the reserved one."""
        mine = set(groups)
        reserved = [found.weight for found in self.reserved_now() if found.group in mine]
        return max([self.limits(user, mine).weight, *reserved])

    def reserved_now(self) -> list[Reservation]:
        """The reservations whose time it is."""
        self._refresh()
        now = self._jobs.now()
        return [found for found in self._reservations if found.starts_at <= now < found.ends_at]

    def coming(self, groups: Iterable[str]) -> list[Reservation]:
        """The reservations of these groups that are not over."""
        self._refresh()
        mine, now = set(groups), self._jobs.now()
        return [found for found in self._reservations if found.group in mine and now < found.ends_at]

    def _of(self, kind: str, name: str, tables: Mapping[str, Limits]) -> dict[str, Any]:
        """What is said of one group or user: what a command has set over what the file says."""
        table = tables.get(name)
        return {**(table.model_dump(exclude_unset=True) if table else {}), **self._set.get(f"{kind}:{name}", {})}

    def _refresh(self) -> None:
        now = self._jobs.now()
        if now - self._looked_at < _FRESH_S:
            return
        self._looked_at = now
        self._set = self._jobs.limits_set()
        self._reservations = self._jobs.reservations(now)
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._settings = _settings(self._read)
        except SetupFailed as error:
            self.problem = f"{error} The limits of the last valid file count."
            log.error("edif.toml is not valid, its last valid limits are kept", reason=str(error))
        else:
            self.problem = ""
            log.info("limits read again")


def merged(everybody: Limits, groups: Iterable[Mapping[str, Any]], own: Mapping[str, Any]) -> Limits:
    """One user's limits, of what is said for everybody, for each of the user's groups, and for the user alone."""
    said: dict[str, list[Any]] = {}
    for group in groups:
        for name, value in group.items():
            said.setdefault(name, []).append(value)
    values = {name: _most_generous(name, found) for name, found in said.items()}
    limits = everybody.model_copy(update={**values, **own})
    longest = max(limits.time_limit_s, limits.max_time_limit_s)
    return limits.model_copy(update={"max_time_limit_s": longest})


def parse_limits(words: Iterable[str]) -> dict[str, Any]:
    """``["queued_jobs=50", "weight=2"]`` as the values that :meth:`Jobs.set_limits` takes.

    Raises:
        LimitsNotUnderstood: no such limit, or no value.
    """
    said: dict[str, Any] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not text or name not in Limits.model_fields:
            known = ", ".join(Limits.model_fields)
            raise LimitsNotUnderstood(f"{word[:80]!r} is not understood: write NAME=VALUE, of {known}.")
        said[name] = text
    return said


def _most_generous(name: str, values: Sequence[Any]) -> Any:
    return 0 if name in _ENDLESS and 0 in values else max(values)


def _settings(read: Callable[[], LimitSettings]) -> LimitSettings:
    try:
        return read()
    except (ValidationError, ValueError) as error:
        raise SetupFailed(f"The table [limits] of edif.toml is not valid: {_first(error)}.") from error


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
