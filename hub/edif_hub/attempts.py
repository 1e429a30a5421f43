"""How often a login may fail before it has to wait: by address, by name, or by whatever else is counted.

Used by both kinds of login (:mod:`edif_hub.shared_password`, :mod:`edif_hub.login_pages`); runs in the hub's process.
It is kept in memory: a restart of the hub forgets it, and attackers cannot restart the hub.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from edif_hub.errors import TooManyAttempts

_WINDOW_S = 60.0
_MOST_NAMES = 10_000


class Attempts:
    """Counts failures in the last minute.

    Args:
        limit: this many, and the next attempt is not looked at.
        clock: seconds, never going back.
    """

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def require(self, *names: str) -> None:
        """Go on unless one of these has failed too often.

        Raises:
            TooManyAttempts: with the time to wait.
        """
        now = self._clock()
        waits_s = [self._wait_s(name, now) for name in names]
        if max(waits_s, default=0) > 0:
            wait_s = math.ceil(max(waits_s))
            raise TooManyAttempts(f"Too many logins have failed here. Wait {wait_s} s, then try again.", wait_s)

    def failed(self, *names: str) -> None:
        """Count a failure of each of these."""
        now = self._clock()
        if len(self._failures) > _MOST_NAMES:  # made-up names must not fill the memory
            self._failures = {name: times for name, times in self._failures.items() if now - times[-1] < _WINDOW_S}
        for name in names:
            self._failures.setdefault(name, deque(maxlen=self._limit)).append(now)

    def _wait_s(self, name: str, now: float) -> float:
        times = self._failures.get(name)
        return times[0] + _WINDOW_S - now if times and len(times) >= self._limit else 0
