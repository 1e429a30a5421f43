"""What the dispatcher knows of the users whose jobs wait: their weight, and how much more of theirs may run now.

Groups come with the jobs, limits from the :class:`~edif_backend.jobs.policy.Policy`, use from the jobs table; all of it
is looked up once a second at most, so a decision costs no question.  Asked by the dispatcher's loop, and by the thread
that tells those who wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from edif_backend.jobs import Jobs, Policy
from edif_backend.jobs.accounting import day_ends_at, in_words
from edif_backend.settings import Limits

_FRESH_S = 1.0


class Standing:
    """The standing of users, as of a moment ago."""

    def __init__(self, jobs: Jobs, policy: Policy) -> None:
        self._jobs = jobs
        self._policy = policy
        self._groups: dict[str, list[str]] = {}
        self._charged_s: dict[str, float] = {}
        self._limits: dict[str, Limits] = {}
        self._weights: dict[str, float] = {}
        self._looked_at = float("-inf")

    def look(self, users: Iterable[str]) -> None:
        """Know these users from now on, and nobody else."""
        now, wanted = self._jobs.now(), set(users)
        if now - self._looked_at < _FRESH_S and wanted <= self._groups.keys():
            return
        self._looked_at = now
        known = self._jobs.groups(wanted) if wanted else {}
        self._groups = {user: known.get(user, []) for user in wanted}
        self._charged_s = self._jobs.charged_today() if wanted else {}
        self._limits.clear()
        self._weights.clear()

    def weight(self, user: str) -> float:
        """The user's weight now."""
        found = self._weights.get(user)
        if found is None:
            found = self._weights[user] = self._policy.weight(user, self._groups.get(user, ()))
        return found

    def most(self, user: str) -> float:
        """How many jobs of the user may run at once: none when the day's device-seconds are used up."""
        limits = self._of(user)
        return 0 if self._spent(user) else limits.running_jobs or math.inf

    def keep_bytes(self, user: str) -> int:
        """How much the user may keep in all; 0 for anything."""
        return self._of(user).stored_bytes

    def held_back(self, user: str, running: int) -> str:
        """Why no more jobs of the user may start while ``running`` run, for the user; nothing when more may."""
        limits = self._of(user)
        if self._spent(user):
            now = self._jobs.now()
            return (
                f"Your {limits.device_seconds_per_day:,.0f} device-seconds of today are used up; "
                f"it goes on after midnight UTC, in {in_words(day_ends_at(now) - now)}."
            )
        if limits.running_jobs and running >= limits.running_jobs:
            yours = "1 job of yours runs" if running == 1 else f"{running} jobs of yours run"
            return f"{yours}, as many as may at once."
        return ""

    def reserved_for_others(self, user: str) -> str:
        """Whose time it is, when that is not the user's; for the user."""
        mine = self._groups.get(user, ())
        for found in self._policy.reserved_now():
            if found.group not in mine:
                left = in_words(found.ends_at - self._jobs.now())
                return f"The group {found.group} has reserved a larger share for {left} more."
        return ""

    def _of(self, user: str) -> Limits:
        found = self._limits.get(user)
        if found is None:
            found = self._limits[user] = self._policy.limits(user, self._groups.get(user, ()))
        return found

    def _spent(self, user: str) -> bool:
        most_s = self._of(user).device_seconds_per_day
        return bool(most_s) and self._charged_s.get(user, 0.0) >= most_s
