"""Packing: saved values go out as ``torch.save`` writes them, piece by piece, and are nowhere held whole a second time.

Called by the executor, inside the jail.  A client that asked for compression takes nothing but one zstd frame that
says its size beforehand, so a large result is written twice: first only to count it and to look at a sample (4 GB/s:
tensors are passed as views), then into the frame.  Where the sample hardly shrinks, as 32-bit activations do, the frame
stores the bytes as they are, which costs nothing and any zstd reads.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import IO, Any, cast

import torch
import zstandard

from edif_backend.executors.frames import PIECE_BYTES
from edif_backend.executors.slices import Slices

#: Up to this size the first writing is kept, and there is no second.
_KEPT_BYTES = 4 << 20
#: The sample: so many bytes of every so many.
_SAMPLE_BYTES, _SAMPLE_EVERY = 16 << 10, 4 << 20
#: What a result must shrink to at level 1 (about 400 MB/s a core) to be worth it.
_PAYS = 0.9
_LEVEL = 1

Send = Callable[[bytes | memoryview], None]


class Unsteady(Exception):
    """The saved values were another size when they were written the second time."""

    def __init__(self) -> None:
        super().__init__("The saved values changed while they were packed; save copies (.clone()) instead.")


def pack(saved: dict[str, Any], compress: bool, send: Send) -> int:
    """Write ``saved`` to ``send``, in pieces that fit a frame; returns how many bytes that were.

    Raises:
        Unsteady: the values changed meanwhile.
        Exception: whatever the values raise when they are pickled; pieces may have been sent by then.
    """
    pieces = Pieces(send)
    if compress:
        survey = _Survey()
        _write(saved, survey)
        if survey.whole is not None:
            pieces.write(zstandard.ZstdCompressor(level=_LEVEL).compress(survey.whole))
        elif survey.pays:
            _write_compressed(saved, survey.size, pieces)
        else:
            _write_stored(saved, survey.size, pieces)
    else:
        _write(saved, pieces)
    pieces.end()
    return pieces.sent_bytes


class Pieces:
    """A file to write to that hands on pieces of one size."""

    def __init__(self, send: Send, piece_bytes: int = PIECE_BYTES) -> None:
        self._send = send
        self._piece_bytes = piece_bytes
        self._rest = bytearray()
        self.sent_bytes = 0

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data)
        if self._rest:
            missing = self._piece_bytes - len(self._rest)
            self._rest += view[:missing]
            view = view[missing:]
            if len(self._rest) == self._piece_bytes:
                self.end()
        while len(view) >= self._piece_bytes:
            self._hand_on(view[: self._piece_bytes])
            view = view[self._piece_bytes :]
        self._rest += view
        return len(data)

    def flush(self) -> None:
        """Part of being a file; pieces are handed on when they are full."""

    def end(self) -> None:
        """Hand on what is left."""
        if self._rest:
            self._hand_on(bytes(self._rest))
            self._rest.clear()

    def _hand_on(self, piece: bytes | memoryview) -> None:
        self._send(piece)
        self.sent_bytes += len(piece)


class _Survey:
    """A file that only counts, keeps a sample, and keeps everything as long as that is little."""

    def __init__(self) -> None:
        self.size = 0
        self._kept = bytearray()
        self._sample = bytearray()

    def write(self, data: bytes | memoryview) -> int:
        if self.size + len(data) <= _KEPT_BYTES:
            self._kept += data
        view = memoryview(data)
        for start in range(-self.size % _SAMPLE_EVERY, len(view), _SAMPLE_EVERY):
            self._sample += view[start : start + _SAMPLE_BYTES]
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Part of being a file."""

    @property
    def whole(self) -> bytes | None:
        """All that was written, if it is little."""
        return bytes(self._kept) if self.size <= _KEPT_BYTES else None

    @property
    def pays(self) -> bool:
        """Whether compressing is worth its time."""
        shrunk = zstandard.ZstdCompressor(level=_LEVEL).compress(bytes(self._sample))
        return len(shrunk) <= _PAYS * len(self._sample)


def _write(saved: dict[str, Any], file: Any) -> None:
    torch.save(saved, file, pickle_module=Slices())


def _write_compressed(saved: dict[str, Any], size: int, pieces: Pieces) -> None:
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    try:
        with compressor.stream_writer(cast(IO[bytes], pieces), size, PIECE_BYTES, closefd=False) as frame:
            _write(saved, frame)
    except zstandard.ZstdError as error:
        raise Unsteady from error


def _write_stored(saved: dict[str, Any], size: int, pieces: Pieces) -> None:
    frame = _StoredFrame(pieces, size)
    _write(saved, frame)
    frame.end()


class _StoredFrame:
    """A zstd frame whose blocks hold their bytes as they are (RFC 8878, 3.1.1: raw blocks)."""

    _MAGIC = 0xFD2FB528
    _SIZE_IN_8_BYTES = 3 << 6
    _WINDOW = 7 << 3  # 2^(10+7) bytes: a block may be as large, and a reader needs no more memory
    _BLOCK_BYTES = 1 << 17
    _LAST = 1

    def __init__(self, pieces: Pieces, size: int) -> None:
        self._pieces = pieces
        self._left = size
        self._blocks = Pieces(self._block, self._BLOCK_BYTES)
        pieces.write(struct.pack("<IBBQ", self._MAGIC, self._SIZE_IN_8_BYTES, self._WINDOW, size))

    def write(self, data: bytes | memoryview) -> int:
        return self._blocks.write(data)

    def flush(self) -> None:
        """Part of being a file."""

    def end(self) -> None:
        """Close the frame.

        Raises:
            Unsteady: it is not as long as it says.
        """
        self._blocks.end()
        if self._left:
            raise Unsteady
        self._pieces.write(self._LAST.to_bytes(3, "little"))  # an empty block

    def _block(self, data: bytes | memoryview) -> None:
        self._left -= len(data)
        if self._left < 0:
            return  # said at the end: torch.save does not let an error of its file through
        self._pieces.write((len(data) << 3).to_bytes(3, "little"))
        self._pieces.write(data)
