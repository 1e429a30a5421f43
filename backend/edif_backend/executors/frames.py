"""Frames: everything that passes between the replica's process and a jailed one.

A frame is a fixed header (kind and length) and that many bytes: JSON for words, opaque bytes for payloads and results.
The side outside the jail trusts no kind, no length and no field, and never unpickles.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from enum import IntEnum
from typing import Any

_HEADER = struct.Struct("!4sBxxxQ")
_MAGIC = b"eDIF"

#: Results travel in pieces of this size.
PIECE_BYTES = 1 << 20
#: Largest frame that carries words (JSON, lines of output).
WORDS_BYTES = 1 << 20
#: What comes at once into a buffer that frames are cut from; a longer one comes into memory of its own.
_SCRATCH_BYTES = 1 << 16


#: What a frame carries, as it came.
Body = bytes | bytearray


class Kind(IntEnum):
    """What a frame carries."""

    JOB = 1  #: to the executor: JSON {compress, env}
    PAYLOAD = 2  #: to the executor: the request's payload
    STARTED = 3  #: from the executor: empty
    LOG = 4  #: from the executor: one line of output, UTF-8
    RESULT = 5  #: from the executor: a piece of the result
    DONE = 6  #: from the executor: JSON {result_bytes, seconds: {…}}; the end
    FAILED = 7  #: from the executor: JSON {description}; the end
    FORK = 8  #: to the zygote: empty, with the executor's socket as its one descriptor
    FORKED = 9  #: from the zygote: JSON {pid}
    EXITED = 10  #: from the zygote: JSON {pid, status}
    LOADING = 11  #: from the zygote: a sentence on how far it is
    READY = 12  #: from the zygote: JSON {seconds, parameters, profile (if it was measured just now)}
    KILL = 13  #: to the zygote: JSON {pid}
    KEPT = 14  #: from the executor: JSON {changed}, empty when it may take its user's next job
    KEEP = 15  #: from the executor: JSON {name}; the pieces of a value to keep follow
    PIECE = 16  #: either way: a piece of a kept value
    WHOLE = 17  #: from the executor: JSON {whole}; the pieces have been sent, an ANSWER is waited for
    WANT = 18  #: from the executor: JSON {name}; an ANSWER is waited for, and the pieces of the value
    ANSWER = 19  #: to the executor: JSON {bytes} or {refused}
    CHECK = 20  #: to the zygote: empty; are the weights on the devices as they were?
    CHECKED = 21  #: from the zygote: JSON {intact}; where they were not, they are again
    PARK = 23  #: to the zygote: empty; let go of the devices
    WAKE = 24  #: to the zygote: empty; put the weights onto the devices again
    AWAKE = 25  #: from the zygote: JSON {refused}, empty when they are there
    UNFIT = 22  #: from the executor: JSON {description}; it could not be made ready, and no job has begun


class FrameError(Exception):
    """What came from the jail is not a frame; the sender is not to be listened to any more."""


def pack(kind: Kind, body: bytes | memoryview = b"") -> bytes:
    """One frame as bytes."""
    return b"".join((_HEADER.pack(_MAGIC, kind, len(body)), body))


def send(sock: socket.socket, kind: Kind, body: bytes | memoryview) -> None:
    """Send one frame (blocking), its body from where it lies."""
    header = _HEADER.pack(_MAGIC, kind, len(body))
    sent = sock.sendmsg((header, body))
    if sent < len(header):
        sock.sendall(header[sent:])
    sock.sendall(memoryview(body)[max(0, sent - len(header)) :])


def words(kind: Kind, **fields: Any) -> bytes:
    """One frame with JSON in it."""
    return pack(kind, json.dumps(fields).encode())


def read_words(body: Body) -> dict[str, Any]:
    """The JSON object of a frame.

    Raises:
        FrameError: it is not one.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError("not JSON") from error
    if not isinstance(fields, dict):
        raise FrameError("not a JSON object")
    return fields


#: What terminals obey (ECMA-48): strings such as titles and links up to their end, then sequences, then lone escapes.
_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
)
#: Other control characters, and those that turn the direction of what follows.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def text(body: Body | str) -> str:
    """Text from the jail as it may be shown on any terminal: nothing in it is obeyed, tabs and line ends stay.

    Of a line that was written over (a progress bar), what stood there last is kept.
    """
    data = body.encode(errors="replace") if isinstance(body, str) else body  # JSON can spell half a character
    said = data.decode(errors="replace")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPES.sub("", said).split("\n")]
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", "\n".join(lines))


def _open_header(header: bytes, limit_bytes: int) -> tuple[Kind, int]:
    magic, kind, length = _HEADER.unpack(header)
    if magic != _MAGIC or kind not in Kind.__members__.values() or length > limit_bytes:
        raise FrameError(f"bad header: {magic!r}, kind {kind}, {length} bytes")
    return Kind(kind), length


class Reader(asyncio.StreamReader):
    """Of the side outside the jail; large bodies come from the socket straight to where they stay."""

    def __init__(self) -> None:
        super().__init__(limit=2 * PIECE_BYTES)
        self._room: memoryview | None = None  # what comes goes there, as long as some is left
        self._filled: asyncio.Future[None] | None = None

    @classmethod
    async def connected(cls, sock: socket.socket) -> tuple[Reader, asyncio.StreamWriter]:
        """Both ways of a socket, as ``asyncio.open_connection`` makes them."""
        reader, loop = cls(), asyncio.get_running_loop()
        transport, protocol = await loop.create_connection(lambda: _IntoPlace(reader), sock=sock)
        return reader, asyncio.StreamWriter(transport, protocol.stream, reader, loop)

    async def body(self, length: int) -> Body:
        """The next ``length`` bytes.

        Raises:
            asyncio.IncompleteReadError: the sender has gone.
        """
        if length <= _SCRATCH_BYTES:
            return await self.readexactly(length)
        whole = bytearray(length)
        here = await self.read(length)  # what has come already; after it nothing waits before the rest
        whole[: len(here)] = here
        if not here:
            raise asyncio.IncompleteReadError(b"", length)
        if len(here) < length:
            self._room, self._filled = memoryview(whole)[len(here) :], asyncio.get_running_loop().create_future()
            try:
                await self._filled
            finally:
                self._room = self._filled = None
        return whole

    def room(self) -> memoryview | None:
        """Where what comes next belongs; None: into the buffer."""
        return self._room

    def came(self, count: int) -> None:
        """So many bytes have come into :meth:`room`."""
        assert self._room is not None
        self._room = self._room[count:] or None
        if self._room is None and self._filled and not self._filled.done():
            self._filled.set_result(None)

    def feed_eof(self) -> None:
        """Nothing more comes."""
        super().feed_eof()
        self._give_up(asyncio.IncompleteReadError(b"", None))

    def set_exception(self, exc: Exception) -> None:
        """The connection is lost."""
        super().set_exception(exc)
        self._give_up(exc)

    def _give_up(self, error: Exception) -> None:
        if self._filled and not self._filled.done():
            self._filled.set_exception(error)


class _IntoPlace(asyncio.BufferedProtocol):
    """Lets the loop read into the memory that the reader names; the rest is as with asyncio's own streams."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._in_place = False
        # Held and not inherited from: uvloop takes no subclass of asyncio.Protocol for a buffered one.
        self.stream = asyncio.StreamReaderProtocol(reader)
        self.connection_made = self.stream.connection_made  # type: ignore[method-assign]
        self.connection_lost = self.stream.connection_lost  # type: ignore[method-assign]
        self.eof_received = self.stream.eof_received  # type: ignore[method-assign]
        self.pause_writing = self.stream.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self.stream.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        room = self._reader.room()
        self._in_place = room is not None
        return self._scratch if room is None else room

    def buffer_updated(self, nbytes: int) -> None:
        """They are there."""
        if self._in_place:
            self._reader.came(nbytes)
        else:
            self._reader.feed_data(self._scratch[:nbytes])


async def read(reader: Reader, limit_bytes: int = WORDS_BYTES) -> tuple[Kind, Body]:
    """The next frame, outside the jail.

    Raises:
        FrameError: it is malformed or longer than ``limit_bytes``.
        asyncio.IncompleteReadError: the sender has gone.
    """
    kind, length = _open_header(await reader.readexactly(_HEADER.size), limit_bytes)
    return kind, await reader.body(length)


def receive(sock: socket.socket, limit_bytes: int) -> tuple[Kind, bytes]:
    """The next frame, inside the jail (blocking).

    Raises:
        EOFError: the replica has gone.
    """
    kind, length = _open_header(_exactly(sock, _HEADER.size), limit_bytes)
    return kind, _exactly(sock, length)


def receive_with_descriptor(sock: socket.socket) -> tuple[Kind, bytes, int | None]:
    """The next frame and the descriptor sent with it, in the zygote (blocking).

    Raises:
        EOFError: the replica has gone.
    """
    # Exactly one header is read: asking for more could run into the next frame and mix up descriptors.
    header, descriptors, _, _ = socket.recv_fds(sock, _HEADER.size, 1)
    if not header:
        raise EOFError
    kind, length = _open_header(header + _exactly(sock, _HEADER.size - len(header)), WORDS_BYTES)
    return kind, _exactly(sock, length), descriptors[0] if descriptors else None


def _exactly(sock: socket.socket, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    while view:
        taken = sock.recv_into(view)
        if not taken:
            raise EOFError
        view = view[taken:]
    return bytes(buffer)
