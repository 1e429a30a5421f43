"""Thousands of bad requests, in a short and seeded form: nothing breaks, nothing leaks, others are served.

The long form is ``edif bench fuzz``.
"""

from __future__ import annotations

import gc
import secrets
import socket
import time
from collections.abc import Iterator

import pytest
from tests.conftest import Workbench
from tests.fuzz.attack import Attack
from tests.fuzz.slow import KINDS, Crowd, crowd
from tests.fuzz.sockets import sockets

#: schemathesis leaves the connections of its own sessions to the garbage collection.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def slow(workbench: Workbench) -> Iterator[Crowd]:
    """Slow clients, who are there while the rest is tried; the last test looks at their ends."""
    address = workbench.installation.host, workbench.installation.ports["gateway"]
    with crowd(address, workbench.key("slow"), idle=200) as made:
        yield made


@pytest.fixture(scope="module")
def attack(workbench: Workbench, slow: Crowd) -> Iterator[Attack]:
    yield Attack(workbench)
    gc.collect()  # here, and not in the middle of a test that answers for its own sockets


def test_ids_names_and_ranges_are_never_more_than_that(attack: Attack) -> None:
    attack.probes()
    attack.ranges()
    assert attack.report.findings == []


def test_the_openapi_description_holds_for_whatever_is_sent(attack: Attack) -> None:
    attack.openapi(examples=5)
    assert attack.report.findings == []


def test_changed_payloads_are_refused_or_end_with_a_sentence(attack: Attack) -> None:
    attack.payloads(range(250))
    report = attack.report
    assert report.findings == []
    assert len(report.accepted) >= 2, "the gateway cannot see what is inside, so some must have become jobs"
    assert sum(report.accepted.values()) == sum(report.ends.values()) - 1  # and the one of the ranges


def test_frames_that_come_before_the_handshake_is_answered_are_answered_with_400(workbench: Workbench) -> None:
    answers = []
    while not any(answer.startswith(b"HTTP/1.1 400") for answer in answers) and len(answers) < 40:
        answers.append(_early_frame(workbench))
    assert answers[-1].startswith(b"HTTP/1.1 400"), answers
    assert b"" not in answers, "the gateway raised instead of answering"


def _early_frame(workbench: Workbench) -> bytes:
    """What comes back when a broken frame follows while the gateway still asks the hub about the key."""
    address = workbench.installation.host, workbench.installation.ports["gateway"]
    asked = {
        "host": "gateway",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-version": "13",
        "ndif-api-key": secrets.token_hex(16),
    }
    lines = ["GET /subscribe HTTP/1.1", *(f"{name}: {value}" for name, value in asked.items()), "", ""]
    with socket.create_connection(address, timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        time.sleep(0.002)  # or it is read together with the head, and waits
        connection.sendall(b"\xff" * 4)
        connection.settimeout(2)
        try:
            return connection.recv(4096)
        except TimeoutError:
            return b"nothing"


def test_changed_websockets_are_hung_up_on_or_answered(attack: Attack) -> None:
    sockets(attack, range(200))
    assert attack.report.findings == []


def test_nothing_is_left_behind(attack: Attack) -> None:
    assert attack.conclude().findings == []


def test_slow_clients_are_hung_up_on_in_time(slow: Crowd) -> None:
    slow.ended()
    assert slow.late() == {}
    assert set(slow.held_s) == set(KINDS)
    assert min(slow.held_s.values()) > 4  # they were not refused at once
    assert len(slow.pings_ms) > 50
