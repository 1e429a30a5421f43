"""Websockets that no client opens: handshakes, frames and messages changed at random, seeded."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from tests.fuzz.attack import Attack
from tests.fuzz.shots import ODD

_SETTLE_S = 0.3  # how long it is listened to a socket that stays open


def frame(data: bytes, opcode: int = 1, first_bits: int = 0x80, masked: bool = True) -> bytes:
    """One frame of a client (RFC 6455, 5.2); ``first_bits`` are FIN and the reserved ones."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size) if size < 1 << 16 else b"\x7f"
    length += struct.pack("!Q", size) if size >= 1 << 16 else b""
    mask = b"\x00" * 4 if masked else b""
    return bytes([first_bits | opcode, length[0] | (0x80 if masked else 0)]) + length[1:] + mask + data


def handshake(key: str, **changes: str) -> bytes:
    """The request that opens a websocket of ``/subscribe``."""
    headers = {
        "host": "x",
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "ndif-api-key": key,
    } | {name.replace("_", "-"): value for name, value in changes.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET /subscribe HTTP/1.1\r\n{head}\r\n".encode("latin-1")


def _messages(dice: random.Random, ids: list[str]) -> bytes:
    odd, id = dice.choice(ODD), dice.choice([*ids, "0" * 32, "' OR '1'='1", "../" * 10])
    body = dice.choice(
        (
            {"resume": {id: 0}},
            {"resume": {id: odd}},
            {"resume": odd},
            {"resume": {f"{number:032x}": 0 for number in range(dice.choice((20, 1001)))}},
            {"session_id": id, "resume": {id: 0}},
            odd,
        )
    )
    text = json.dumps(body).encode()
    return dice.choice((text, text, text[: dice.randrange(len(text) + 1)], b"[" * 50_000, b"\xff\xfe" + text))


def attempt(seed: int, key: str, ids: list[str]) -> bytes:
    """The bytes that belong to this seed."""
    dice = random.Random(seed)
    if dice.random() < 0.25:
        name = dice.choice(("sec_websocket_key", "sec_websocket_version", "connection", "upgrade", "ndif_api_key"))
        extra = dice.choice(("sec_websocket_extensions", "sec_websocket_protocol", "origin"))
        odd = dice.choice(
            ("", "x" * 500, "\xff\xfe", "13, 14", "permessage-deflate; server_max_window_bits=99", "a,,b")
        )
        return handshake(key, **{dice.choice((name, extra)): odd}) + frame(b"{}")
    sent = b""
    for _ in range(dice.randint(1, 4)):
        text = _messages(dice, ids)
        sent += dice.choice(
            (
                frame(text),
                frame(text),
                frame(text),
                frame(text, opcode=2),
                frame(text, opcode=dice.randrange(16), first_bits=dice.choice((0, 0x80, 0xC0, 0xF0))),
                frame(text, masked=False),
                frame(text[:5], first_bits=0) + frame(text[5:], opcode=0),
                frame(b"x" * 126, opcode=9),
                frame(b"\x03", opcode=8),
                b"\x81\xff" + b"\xff" * 8,
                frame(bytes((1 << 20) + 1)),
            )
        )
    return handshake(key) + sent + (frame(b"\x03\xe8", opcode=8) if dice.random() < 0.5 else b"")


def sockets(attack: Attack, seeds: range) -> None:
    """Open the sockets of these seeds and judge what is said on them."""

    def one(seed: int) -> None:
        sent = attempt(seed, attack.key, attack.ids)
        attack.report.sent["websockets"] += 1
        heard = listen(attack.address, sent)
        attack.report.statuses[int(heard[9:12] or 0)] += 1
        if heard.startswith(b"HTTP/1.1 5") or not heard:
            attack.report.find("broken:", f"websocket {seed}", heard)
        attack.silent(f"websocket {seed}", heard, sent)

    with ThreadPoolExecutor(8) as threads:
        for _ in threads.map(one, seeds):
            pass


def listen(address: tuple[str, int], sent: bytes) -> bytes:
    """What comes back until the server hangs up or has nothing more to say."""
    heard, quiet_at = b"", time.monotonic() + 30
    with socket.create_connection(address, timeout=30) as peer:
        try:
            peer.sendall(sent)
            while time.monotonic() < quiet_at and (piece := peer.recv(65536)):
                heard += piece
                peer.settimeout(_SETTLE_S)
        except OSError:
            pass
    return heard
