"""Logins that fail too often have to wait."""

from __future__ import annotations

import pytest

from edif_hub.attempts import Attempts
from edif_hub.errors import TooManyAttempts


def test_the_one_too_many_waits_until_the_first_is_a_minute_old() -> None:
    now = [0.0]
    attempts = Attempts(3, lambda: now[0])
    for second in (0, 10, 20):
        now[0] = second
        attempts.require("address a", "name x")
        attempts.failed("address a", "name x")
    with pytest.raises(TooManyAttempts) as refused:
        attempts.require("address b", "name x")
    assert refused.value.wait_s == 40
    attempts.require("address b", "name y")
    now[0] = 60
    attempts.require("address a", "name x")


def test_made_up_names_do_not_fill_the_memory() -> None:
    now = [0.0]
    attempts = Attempts(3, lambda: now[0])
    for number in range(30_000):
        now[0] += 0.01
        attempts.failed(str(number))
    assert len(attempts._failures) < 20_000
