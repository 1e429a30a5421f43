"""What those who wait for a model are told while it is loaded."""

from __future__ import annotations

import asyncio

import pytest

from edif_backend.executors import frames
from edif_backend.executors.frames import Kind
from edif_backend.executors.progress import time_left, wait_until_loaded


@pytest.mark.parametrize(
    ("elapsed_s", "usual_s", "told"),
    [
        (9.0, 20.0, " 45%, about 11 s left."),
        (19.5, 20.0, ""),
        (30.0, 20.0, ""),
        (1.0, None, ""),
        (0.1, 1.0, ""),
    ],
)
def test_the_time_left_is_told_while_it_can_be_known(elapsed_s: float, usual_s: float | None, told: str) -> None:
    assert time_left(elapsed_s, usual_s) == told


@pytest.mark.asyncio
async def test_what_the_zygote_says_is_passed_on_without_commands_for_terminals_until_it_is_ready() -> None:
    reader = frames.Reader()
    said: list[str] = []
    reader.feed_data(frames.pack(Kind.LOADING, b"Loading \x1b[31mthe weights."))
    reader.feed_data(frames.words(Kind.READY, parameters=3))
    assert await wait_until_loaded(reader, said.append, 20.0) == {"parameters": 3}
    assert said == ["Loading the weights. 0%, about 20 s left."]


@pytest.mark.asyncio
async def test_a_zygote_that_ends_ends_the_waiting() -> None:
    reader = frames.Reader()
    reader.feed_data(frames.pack(Kind.LOADING, b"Starting"))
    reader.feed_eof()
    with pytest.raises(asyncio.IncompleteReadError):
        await wait_until_loaded(reader, lambda _: None, None)
