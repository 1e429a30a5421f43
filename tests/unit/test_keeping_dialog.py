"""What may pass between a jail and the kept values of its user: right frames, wrong ones, too much."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.memory_keeper import MemoryKeeper

from edif_backend.executors import frames
from edif_backend.executors.frames import FrameError, Kind
from edif_backend.executors.keeping_dialog import KeepingDialog


class Writer:
    """Takes the frames that go to the executor."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass

    async def frames(self) -> list[tuple[Kind, Any]]:
        reader = frames.Reader()
        reader.feed_data(bytes(self.data))
        reader.feed_eof()
        found: list[tuple[Kind, Any]] = []
        while not reader.at_eof():
            kind, body = await frames.read(reader)
            found.append((kind, body if kind is Kind.PIECE else json.loads(body)))
        return found


def words(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


async def hear(keeper: MemoryKeeper, *said: tuple[Kind, bytes]) -> list[tuple[Kind, Any]]:
    writer = Writer()
    dialog = KeepingDialog(keeper, writer)
    try:
        for kind, body in said:
            await dialog.hear(kind, body)
    finally:
        await dialog.close()
    return await writer.frames()


async def test_a_value_is_kept_when_it_is_whole_and_comes_back_as_it_was() -> None:
    keeper = MemoryKeeper()
    kept = await hear(
        keeper,
        (Kind.KEEP, words(name="a")),
        (Kind.PIECE, b"x" * 1500),
        (Kind.PIECE, b"y"),
        (Kind.WHOLE, words(whole=True)),
    )
    assert kept == [(Kind.ANSWER, {"bytes": 0})]
    answer, *pieces = await hear(keeper, (Kind.WANT, words(name="a")))
    assert answer == (Kind.ANSWER, {"bytes": 1501})
    assert b"".join(body for _, body in pieces) == b"x" * 1500 + b"y"


async def test_what_is_not_finished_is_not_kept() -> None:
    keeper = MemoryKeeper()
    assert await hear(keeper, (Kind.KEEP, words(name="a")), (Kind.PIECE, b"x")) == []  # the executor died
    (answer,) = await hear(keeper, (Kind.KEEP, words(name="a")), (Kind.PIECE, b"x"), (Kind.WHOLE, words(whole=False)))
    assert "could not be packed" in answer[1]["refused"]
    assert (keeper.values, keeper.abandoned) == ({}, 2)


async def test_too_much_is_refused_once_and_leaves_what_was_there() -> None:
    keeper = MemoryKeeper(room_bytes=10)
    keeper.values["a"] = b"old"
    flood = [(Kind.PIECE, b"x" * 8)] * 50
    (answer,) = await hear(keeper, (Kind.KEEP, words(name="a")), *flood, (Kind.WHOLE, words(whole=True)))
    assert answer == (Kind.ANSWER, {"refused": "There is no room for this value."})
    assert (keeper.values, keeper.abandoned) == ({"a": b"old"}, 1)


@pytest.mark.parametrize("name", ["../a", "", "a/b", "x" * 65, "a\0", None, 7, ["a"], "-a"])
async def test_what_is_no_name_is_refused(name: object) -> None:
    keeper = MemoryKeeper()
    (wanted,) = await hear(keeper, (Kind.WANT, words(name=name)))
    assert "cannot be the name" in wanted[1]["refused"]
    (kept,) = await hear(keeper, (Kind.KEEP, words(name=name)), (Kind.PIECE, b"x"), (Kind.WHOLE, words(whole=True)))
    assert "cannot be the name" in kept[1]["refused"]
    assert keeper.values == {}


@pytest.mark.parametrize(
    "said",
    [
        [(Kind.PIECE, b"x")],
        [(Kind.WHOLE, words(whole=True))],
        [(Kind.KEEP, words(name="a")), (Kind.KEEP, words(name="b"))],
        [(Kind.KEEP, words(name="a")), (Kind.WANT, words(name="a"))],
        [(Kind.KEEP, b"no json")],
        [(Kind.WANT, b"[1]")],
    ],
)
async def test_what_is_out_of_turn_ends_the_executor(said: list[tuple[Kind, bytes]]) -> None:
    with pytest.raises(FrameError):
        await hear(MemoryKeeper(), *said)
