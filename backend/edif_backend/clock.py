"""Time as an argument: parts that need it take a :data:`Clock`, tests give them one they move by hand."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds since the epoch, UTC.
Clock = Callable[[], float]

now: Clock = time.time
