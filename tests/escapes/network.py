"""Attempts on the network and on the sockets of the workbench."""

from __future__ import annotations

import socket
from typing import Any

from tests.escapes.attempts import Attempts, Scene

ATTEMPTS = Attempts()


def make(scene: Scene, case: tuple[int, int, int]) -> bool:
    import socket as sockets

    with sockets.socket(*case) as made:
        return made.fileno() >= 0


_STREAM, _DATAGRAM, _RAW = int(socket.SOCK_STREAM), int(socket.SOCK_DGRAM), int(socket.SOCK_RAW)
_FAMILIES: dict[str, tuple[int, int, int]] = {
    "TCP": (2, _STREAM, 0),
    "UDP": (2, _DATAGRAM, 0),
    "TCP 6": (10, _STREAM, 0),
    "UDP 6": (10, _DATAGRAM, 0),
    "Unix": (1, _STREAM, 0),
    "Unix datagram": (1, _DATAGRAM, 0),
    "netlink": (16, _RAW, 0),
}
ATTEMPTS.each("socket", make, _FAMILIES)
ATTEMPTS.each("socket", make, {"raw": (2, _RAW, 1), "raw 6": (10, _RAW, 58)}, needs_root=True)


def connect(scene: Scene, where: str) -> Any:
    import socket as sockets

    address = scene[where]
    family = sockets.AF_INET if isinstance(address, int) else sockets.AF_UNIX
    with sockets.socket(family) as ours:
        ours.connect(("127.0.0.1", address) if isinstance(address, int) else address)
        return True


ATTEMPTS.each("connect", connect, {"a port": "port", "a Unix socket": "unix", "an abstract socket": "abstract"})


@ATTEMPTS.add
def listen_for_the_next_job(scene: Scene) -> bool:
    import socket as sockets

    with sockets.create_server(("127.0.0.1", 0)) as server:
        return server.fileno() >= 0


@ATTEMPTS.add
def send_to_everybody(scene: Scene) -> bool:
    import socket as sockets

    with sockets.socket(sockets.AF_INET, sockets.SOCK_DGRAM) as ours:
        return ours.sendto(b"x", ("127.0.0.1", 9)) == 1
