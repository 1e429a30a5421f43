"""``edif bench keys``: what checking a key costs, how long a revoked one works, what an outage of the hub does.

A hub and its proxy of its own, no backend; the gateway's own :class:`~edif_backend.gateway.identity.Identity` asks it.
Takes a minute and a half, most of it waiting for caches to end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.light_hub import LightHub, light_hub

from edif_backend.errors import FabricError
from edif_backend.gateway.identity import Identity
from edif_backend.settings import BackendSettings

_ROUNDS = 2000
_HUB_ROUNDS = 200


def hub_api(hub: LightHub, method: str, path: str, **body: Any) -> Any:
    """The hub's answer to the ``edif`` command."""
    headers = {"Authorization": f"token {hub.installation.secret('hub-admin-token')}"}
    answer = httpx.request(
        method, f"{hub.installation.url('hub')}/hub/api{path}", headers=headers, json=body, timeout=30
    )
    answer.raise_for_status()
    return answer.json() if answer.content else None


def new_key(hub: LightHub) -> tuple[str, str]:
    """A key of the user ``ada``, and its id."""
    made = hub_api(hub, "POST", "/users/ada/tokens", scopes=["custom:edif:trace"], expires_in=3600, note="bench")
    return made["token"], made["id"]


def identity(hub: LightHub, client: httpx.AsyncClient, **times: float) -> Identity:
    """As the gateway makes it, with its default times unless said."""
    defaults = BackendSettings.model_fields
    known = {"answer_s": "hub_answer_s", "refusal_s": "hub_refusal_s", "outage_s": "hub_outage_s"}
    told = {name: times.get(name, defaults[field].default) for name, field in known.items()}
    return Identity(client, hub.installation.url("hub"), **told, mend="", clock=time.monotonic)


async def milliseconds(rounds: int, check: Any) -> list[float]:
    """What each of ``rounds`` checks took."""
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await check()
        took.append((time.perf_counter() - begun) * 1000)
    return took


async def seconds_until(refused: Any, limit_s: float = 60) -> float:
    """How long it takes until ``refused`` says so."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_s:
        if await refused():
            break
        await asyncio.sleep(0.2)
    return time.monotonic() - begun


async def measure(hub: LightHub) -> dict[str, Any]:
    """All figures."""
    hub_api(hub, "POST", "/users/ada")
    key, id = new_key(hub)
    async with httpx.AsyncClient(timeout=10) as client:
        gate = identity(hub, client)
        await gate.user(key)
        cached = await milliseconds(_ROUNDS, lambda: gate.user(key))
        process = psutil.Process(hub.pid("hub"))
        before = sum(process.cpu_times()[:2])
        eager = identity(hub, client, answer_s=0.0)
        asked = await milliseconds(_HUB_ROUNDS, lambda: eager.user(key))
        hub_cpu_ms = (sum(process.cpu_times()[:2]) - before) / _HUB_ROUNDS * 1000

        async def refused() -> bool:
            try:
                await gate.user(key)
            except FabricError:
                return True
            return False

        await gate.user(key)
        hub_api(hub, "DELETE", f"/users/ada/tokens/{id}")
        revoked_s = await seconds_until(refused)
        held, _ = new_key(hub)
        known = identity(hub, client, answer_s=0.0)
        await known.user(held)
        hub.stop("hub", kill=True)
        in_outage = (await known.user(held)).name == "ada"
        after_no = await refused()
        hub.start("hub")
        again = (await known.user(held)).name == "ada"
    return {
        "cached_ms": statistics.median(cached),
        "cached_p99_ms": statistics.quantiles(cached, n=100)[98],
        "asked_ms": statistics.median(asked),
        "hub_cpu_ms": hub_cpu_ms,
        "revoked_refused_after_s": revoked_s,
        "known_key_works_while_hub_is_dead": in_outage,
        "refused_key_stays_refused_while_hub_is_dead": after_no,
        "key_works_after_hub_restart": again,
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="edif bench keys", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one object of figures as the last line")
    arguments = parser.parse_args()
    with light_hub("bench-keys") as hub:
        hub.start()
        figures = asyncio.run(measure(hub))
    if arguments.json:
        print(json.dumps(figures))
        return
    table = Table("figure", "value")
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), f"{value:.3f}" if isinstance(value, float) else str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
