"""Is this what a client of the right version sends?  Looked at without running any of it.

A payload is a pickle, maybe inside one zstd frame.  The gateway never unpickles; it checks the outer form and the size
that it would have, so that garbage, bombs and wrong versions are refused before anything is queued.
"""

from __future__ import annotations

import zstandard

from edif_backend.errors import PayloadRefused, PayloadTooLarge, VersionRefused
from edif_protocol.wire import NNSIGHT_SERIES

_PICKLE_START = b"\x80\x04"  # protocol 4, the one nnsight writes
_PICKLE_END = b"."
_PIECE_BYTES = 1 << 20


def check_version(nnsight_version: str | None) -> None:
    """Refuse a client whose payloads would not be understood.

    Raises:
        VersionRefused: the client is not nnsight of the served series.
    """
    if nnsight_version and nnsight_version.split(".")[:2] == NNSIGHT_SERIES.split("."):
        return
    said = f"nnsight {nnsight_version[:32]}" if nnsight_version else "no nnsight version"
    raise VersionRefused(
        f"The client says {said}; this installation runs nnsight {NNSIGHT_SERIES}. "
        f'Install it with: pip install "nnsight=={NNSIGHT_SERIES}.*"'
    )


def check_payload(payload: bytes, compress: bool, limit_bytes: int) -> None:
    """Refuse what is not a payload of nnsight.

    Raises:
        PayloadRefused: not a (compressed) pickle of protocol 4.
        PayloadTooLarge: larger than ``limit_bytes`` once unpacked.
    """
    first, last, size = _unpacked_ends(payload, limit_bytes) if compress else (payload[:2], payload[-1:], len(payload))
    if size > limit_bytes:
        raise PayloadTooLarge(f"The payload unpacks to more than {limit_bytes} bytes; send less data with the trace.")
    if first != _PICKLE_START or last != _PICKLE_END:
        raise PayloadRefused(
            "The payload is not what nnsight sends. Send traces with nnsight itself "
            f"({NNSIGHT_SERIES}.*), and check that no proxy in between changes request bodies."
        )


def _unpacked_ends(payload: bytes, limit_bytes: int) -> tuple[bytes, bytes, int]:
    """First two bytes, last byte and size of what one zstd frame holds; stops reading beyond the limit."""
    first, last, size = b"", b"", 0
    try:
        if zstandard.frame_content_size(payload) > limit_bytes:
            return first, last, limit_bytes + 1
        with zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(payload) as reader:
            while piece := reader.read(_PIECE_BYTES):
                first = first or piece[:2]
                last = piece[-1:]
                size += len(piece)
                if size > limit_bytes:
                    break
    except zstandard.ZstdError as error:
        raise PayloadRefused(
            "The payload is said to be compressed (zstd) and is not; it may have been cut off. Send it again."
        ) from error
    return first, last, size
