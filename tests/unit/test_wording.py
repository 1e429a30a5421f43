"""States, sizes and times in words."""

from __future__ import annotations

import pytest

from edif_protocol.wire import State
from edif_protocol.wording import model_state, size, span, state, tone


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"),
        (0, "0.0 s"),
        (0.0001, "1 ms"),
        (0.0234, "23 ms"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (93.4, "1 min 33 s"),
        (3600, "1 h"),
        (7384, "2 h 3 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_times_have_the_two_units_that_matter(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1536, "1.5 KiB"),
        (64 << 20, "64 MiB"),
        (20 << 30, "20 GiB"),
        (1 << 50, "1.05e+06 GiB"),
    ],
)
def test_sizes_are_those_of_the_documents(count: int, text: str) -> None:
    assert size(count) == text


def test_every_state_has_a_word_and_a_mark() -> None:
    assert all(state(word) != word for word in State)
    assert {tone(word) for word in State} == {"busy", "waits", "good", "bad", "over"}
    assert (model_state("RUNNING"), model_state("NOT_STARTED"), model_state("NEW")) == ("Ready", "Not loaded", "New")
