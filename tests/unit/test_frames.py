"""What comes out of the jail is taken apart with care."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from edif_backend.executors import frames
from edif_backend.executors.frames import FrameError, Kind


async def read_from(data: bytes, limit_bytes: int = frames.WORDS_BYTES) -> tuple[Kind, frames.Body]:
    reader = frames.Reader()
    reader.feed_data(data)
    reader.feed_eof()
    return await frames.read(reader, limit_bytes)


async def test_a_frame_arrives_as_it_was_sent() -> None:
    assert await read_from(frames.pack(Kind.RESULT, b"abc")) == (Kind.RESULT, b"abc")
    kind, body = await read_from(frames.words(Kind.DONE, result_bytes=3))
    assert kind is Kind.DONE
    assert frames.read_words(body) == {"result_bytes": 3}


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 400_000), max_size=6), st.integers(1, 300_000))
def test_frames_of_any_size_come_whole_and_in_order(sizes: list[int], at_once: int) -> None:
    bodies = [bytes([number]) * size for number, size in enumerate(sizes)]

    def send(sock: socket.socket) -> None:
        with sock:
            sent = b"".join(frames.pack(Kind.RESULT, body) for body in bodies)
            for start in range(0, len(sent), at_once):
                sock.sendall(sent[start : start + at_once])

    async def receive() -> list[bytes]:
        ours, theirs = socket.socketpair()
        sending = asyncio.create_task(asyncio.to_thread(send, theirs))
        reader, writer = await frames.Reader.connected(ours)
        try:
            return [bytes((await frames.read(reader))[1]) for _ in bodies]
        finally:
            await sending
            with pytest.raises(asyncio.IncompleteReadError):
                await frames.read(reader)
            writer.close()

    for loop in (asyncio.new_event_loop, uvloop.new_event_loop):  # Ray's workers have the second
        with asyncio.Runner(loop_factory=loop) as runner:
            assert runner.run(receive()) == bodies


@pytest.mark.parametrize("size", [0, 10, 200_000, 900_000])
async def test_a_sender_that_goes_within_a_frame_is_noticed(size: int) -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await frames.Reader.connected(ours)
    with theirs:
        await asyncio.to_thread(theirs.sendall, frames.pack(Kind.RESULT, bytes(1_000_000))[: 16 + size])
    with pytest.raises(asyncio.IncompleteReadError):
        await frames.read(reader)
    writer.close()


async def test_a_frame_whose_reader_was_cancelled_is_no_ones() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await frames.Reader.connected(ours)
    with theirs:
        theirs.sendall(frames.pack(Kind.RESULT, bytes(1_000_000))[:100_000])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(frames.read(reader), timeout=0.1)  # the rest of the body does not come
        theirs.sendall(frames.pack(Kind.LOG, b"rest"))
        async with asyncio.timeout(5):
            assert await reader.read(1 << 20) == frames.pack(Kind.LOG, b"rest")
    writer.close()


def test_a_body_is_sent_from_where_it_lies() -> None:
    ours, theirs = socket.socketpair()
    body = bytes(range(256)) * 4_000
    with ours, theirs:
        sending = threading.Thread(target=frames.send, args=(ours, Kind.RESULT, memoryview(body)))
        sending.start()
        assert frames.receive(theirs, 1 << 20) == (Kind.RESULT, body)
        sending.join()


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("!4sBxxxQ", b"evil", Kind.LOG, 0),
        struct.pack("!4sBxxxQ", b"eDIF", 99, 0),
        struct.pack("!4sBxxxQ", b"eDIF", 0, 0),
        struct.pack("!4sBxxxQ", b"eDIF", Kind.RESULT, 2**63),
        struct.pack("!4sBxxxQ", b"eDIF", Kind.RESULT, frames.WORDS_BYTES + 1),
    ],
)
async def test_forged_headers_are_refused_before_a_byte_is_read(header: bytes) -> None:
    with pytest.raises(FrameError):
        await read_from(header)


@given(st.binary(min_size=16, max_size=64))
def test_random_bytes_are_a_frame_error_or_a_cut_off_frame(data: bytes) -> None:
    with pytest.raises((FrameError, asyncio.IncompleteReadError)):
        asyncio.run(read_from(data))


@pytest.mark.parametrize("body", [b"", b"[1]", b"nonsense", b"[" * 100_000, b'"text"'])
def test_words_that_are_not_a_json_object_are_refused(body: bytes) -> None:
    with pytest.raises(FrameError):
        frames.read_words(body)


def test_a_descriptor_stays_with_its_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, socket.socket() as passed:
        ours.sendall(frames.words(Kind.KILL, pid=5))
        socket.send_fds(ours, [frames.pack(Kind.FORK)], [passed.fileno()])
        ours.sendall(frames.words(Kind.KILL, pid=6))
        assert frames.receive_with_descriptor(theirs)[::2] == (Kind.KILL, None)
        kind, _, descriptor = frames.receive_with_descriptor(theirs)
        assert kind is Kind.FORK
        assert descriptor is not None
        socket.socket(fileno=descriptor).close()
        assert frames.receive_with_descriptor(theirs)[::2] == (Kind.KILL, None)
        ours.close()
        with pytest.raises(EOFError):
            frames.receive_with_descriptor(theirs)


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"plain \xc3\xa4 \xe6\xbc\xa2\tand a tab", "plain ä 漢\tand a tab"),
        (b"\x1b[31mred\x1b[0m \x9b1mnot UTF-8", "red \ufffd1mnot UTF-8"),
        ("\x9b2J\u202eabc", "\ufffdabc"),
        (b"\x1b]0;a new title\x07here", "here"),
        (b"\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]52;c;cm0gLXJmIC8=", ""),
        (b"\x1bc\x1b(0reset", "reset"),
        (b"\x08\x08\x00over", "\ufffd\ufffd\ufffdover"),
        (b" 10%\r 20%\r 30%\r\nnext", " 30%\nnext"),
        ("\ud800 half", "? half"),
    ],
)
def test_no_terminal_obeys_what_the_jail_says(said: bytes | str, shown: str) -> None:
    assert frames.text(said) == shown
