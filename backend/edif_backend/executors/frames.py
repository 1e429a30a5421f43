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


def words(kind: Kind, **fields: Any) -> bytes:
    """One frame with JSON in it."""
    return pack(kind, json.dumps(fields).encode())


def read_words(body: bytes) -> dict[str, Any]:
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


def text(body: bytes | str) -> str:
    """Text from the jail as it may be shown on any terminal: nothing in it is obeyed, tabs and line ends stay.

    Of a line that was written over (a progress bar), what stood there last is kept.
    """
    data = body if isinstance(body, bytes) else body.encode(errors="replace")  # JSON can spell half a character
    said = data.decode(errors="replace")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in _ESCAPES.sub("", said).split("\n")]
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", "\n".join(lines))


def _open_header(header: bytes, limit_bytes: int) -> tuple[Kind, int]:
    magic, kind, length = _HEADER.unpack(header)
    if magic != _MAGIC or kind not in Kind.__members__.values() or length > limit_bytes:
        raise FrameError(f"bad header: {magic!r}, kind {kind}, {length} bytes")
    return Kind(kind), length


async def read(reader: asyncio.StreamReader, limit_bytes: int = WORDS_BYTES) -> tuple[Kind, bytes]:
    """The next frame, outside the jail.

    Raises:
        FrameError: it is malformed or longer than ``limit_bytes``.
        asyncio.IncompleteReadError: the sender has gone.
    """
    kind, length = _open_header(await reader.readexactly(_HEADER.size), limit_bytes)
    return kind, await reader.readexactly(length)


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
