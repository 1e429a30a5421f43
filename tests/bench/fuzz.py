"""``edif bench fuzz``: bad requests by the thousand at the running gateway, in full; ends with status 1 on a finding.

Changed payloads and envelopes, websockets, ids and names, ranges, whatever schemathesis makes of the OpenAPI
description, and slow clients of all kinds beside a crowd of idle ones.  The user who attacks, ``fuzzer``, is given a
time limit of 10 s.  The short form is ``tests/integration/test_fuzz.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edif_protocol.installation import Installation

sys.path.append(str(Path(__file__).parents[2]))
from tests.conftest import Workbench
from tests.fuzz.attack import Attack
from tests.fuzz.slow import KINDS, crowd
from tests.fuzz.sockets import sockets


def fuzz(seed: int, payloads: int, websockets: int, examples: int) -> dict[str, Any]:
    """Attack; gives counts by kind, seconds of each part, and what was found."""
    attack = Attack(Workbench(Installation()))
    first = seed * 1_000_000
    parts: dict[str, Callable[[], None]] = {
        "ids and names": attack.probes,
        "ranges": attack.ranges,
        "OpenAPI": lambda: attack.openapi(examples),
        "payloads": lambda: attack.payloads(range(first, first + payloads)),
        "websockets": lambda: sockets(attack, range(first, first + websockets)),
    }
    seconds = {}
    for name, part in parts.items():
        began = time.monotonic()
        part()
        seconds[name] = round(time.monotonic() - began, 1)
    report = attack.conclude()
    return {
        "sent": dict(report.sent),
        "answers": {str(status): count for status, count in sorted(report.statuses.items())},
        "accepted": sum(report.accepted.values()),
        "ends": dict(report.ends),
        "seconds": seconds,
        "findings": report.findings,
    }


def crowds(idle: int) -> dict[str, Any]:
    """What another client meets beside no slow clients, then beside ``idle`` silent ones and ten of each kind."""
    workbench = Workbench(Installation())
    address = workbench.installation.host, workbench.installation.ports["gateway"]
    key = workbench.key("slow")
    with crowd(address, key, idle=0, each=0) as alone:
        time.sleep(10)
    with crowd(address, key, idle, each=10) as made:
        made.ended()
    return {
        "held_s": {kind: made.held_s[kind] for kind in KINDS},
        "late": made.late(),
        "ping_p50_p99_ms": {"alone": alone.percentiles(), "beside them": made.percentiles()},
    }


def main() -> None:
    """Print the figures as a table or as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--payloads", type=int, default=10_000)
    parser.add_argument("--websockets", type=int, default=2000)
    parser.add_argument(
        "--examples", type=int, default=50, help="of each operation and mode of the OpenAPI description"
    )
    parser.add_argument("--idle", type=int, default=500, help="silent connections beside the slow ones")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = {"benchmark": "fuzz", "seed": asked.seed, "slow": crowds(asked.idle)}
    figures |= fuzz(asked.seed, asked.payloads, asked.websockets, asked.examples)
    if asked.json:
        print(json.dumps(figures))
    else:
        table = Table("Bad requests", "")
        for name, value in figures.items():
            table.add_row(name, str(value))
        Console().print(table)
    if figures["findings"] or figures["slow"]["late"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
