"""Clients that keep a server waiting: heads and bodies that trickle or stop, websockets that are dead, idle crowds."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
from tests.fuzz.sockets import handshake

_BODY = (
    b"POST /request HTTP/1.1\r\nHost: x\r\nndif-api-key: KEY\r\nnnsight-version: 0.8.1\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b\r\n"
)
_ASK = b"GET /ping HTTP/1.1\r\nHost: x\r\n"
#: What is sent at once, what is sent each second from then on, and after how long the server must have hung up.
KINDS: dict[str, tuple[bytes, bytes, float]] = {
    "says nothing": (b"", b"", 25),
    "head stops": (b"GET /pi", b"", 25),
    "head trickles": (_ASK, b"a: b\r\n", 25),
    "body stops": (_BODY, b"", 35),
    "body trickles": (_BODY, b"x", 35),
    "body trickles after the answer": (_ASK + b"Content-Length: 1000\r\n\r\n", b"x", 25),
    "stays after the answer": (_ASK + b"\r\n", b"", 10),
    "begins again after the answer": (_ASK + b"\r\nGET", b"", 25),
    "websocket answers no ping": (handshake("KEY"), b"", 45),
}
_BOUND_S = 60.0


@dataclass(slots=True)
class Crowd:
    """Slow clients, and what another client meets meanwhile."""

    address: tuple[str, int]
    key: str
    held_s: dict[str, float] = field(default_factory=dict)  #: by kind, how long the longest was held
    pings_ms: list[float] = field(default_factory=list)
    slow: list[threading.Thread] = field(default_factory=list)

    def percentiles(self) -> tuple[float, float]:
        """The 50th and 99th percentile of what the other client waited, in milliseconds."""
        cuts = statistics.quantiles(self.pings_ms, n=100)
        return round(cuts[49], 1), round(cuts[98], 1)

    def ended(self) -> None:
        """Wait until all of them were hung up on."""
        for thread in self.slow:
            thread.join(_BOUND_S + 10)

    def late(self) -> dict[str, float]:
        """Kinds that were held longer than they may be."""
        return {kind: held for kind, held in self.held_s.items() if held > KINDS[kind][2]}

    def wait(self, kind: str) -> None:
        """Be one slow client until hung up on."""
        first, drop, _ = KINDS[kind]
        began = time.monotonic()
        with socket.create_connection(self.address) as peer:
            peer.settimeout(1.0)
            try:
                peer.sendall(first.replace(b"KEY", self.key.encode()))
                while time.monotonic() < began + _BOUND_S:
                    try:
                        if not peer.recv(65536):
                            break
                    except TimeoutError:
                        peer.sendall(drop)
            except OSError:
                pass
        self.held_s[kind] = max(self.held_s.get(kind, 0.0), round(time.monotonic() - began, 1))

    def ping(self, stop: threading.Event) -> None:
        """Be the other client."""
        with httpx.Client(base_url="http://{}:{}".format(*self.address), timeout=30) as client:
            while not stop.wait(0.05):
                began = time.monotonic()
                client.get("/ping").raise_for_status()
                self.pings_ms.append((time.monotonic() - began) * 1000)


@contextmanager
def crowd(address: tuple[str, int], key: str, idle: int, each: int = 1) -> Iterator[Crowd]:
    """Slow clients of each kind and ``idle`` silent ones more, and another client beside them, until the end."""
    made, stop = Crowd(address, key), threading.Event()
    kinds = [kind for kind in KINDS for _ in range(each)] + ["says nothing"] * idle
    made.slow = [threading.Thread(target=made.wait, args=(kind,), daemon=True) for kind in kinds]
    other = threading.Thread(target=made.ping, args=(stop,), daemon=True)
    for thread in (*made.slow, other):
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        other.join(30)
