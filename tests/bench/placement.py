"""``edif bench placement``: how fast it is decided where models go, how fast they come back, what taking turns costs.

Three parts, none of which touches the running workbench:

* *decision*: :func:`~edif_backend.dispatch.placement.plan` on random situations of many models and devices;
* *warm*: the demo model is loaded, parked and woken by a pool of executors, in turns with a copy of as much memory;
* *turns* (``--turns SECONDS``): a workbench of its own with memory for one of two models.  One user floods the first,
  another sends a job for the second now and then; how long that one waits, and how often the models change places.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from edif_backend.dispatch.placement import Copy, plan
from edif_backend.dispatch.sites import Device, Need, Part, Spread
from edif_backend.executors.pool import ExecutorPool, Limits
from edif_backend.jobs import open_jobs
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, Catalogue
from edif_backend.models.memory import weight_bytes
from edif_backend.models.snapshots import prepare
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation
from edif_protocol.wire import State

sys.path.append(str(Path(__file__).parents[2]))
from tests.conftest import TINY_ALONE, installation

SITUATIONS = 200
#: Models and nodes of a decision.
SIZES = ((2, 1), (20, 1), (100, 4))
ROUNDS = 9
TURN_S = 3
_GB = 10**9
_SECOND = "house/second"
_CATALOGUE = TINY_ALONE.replace("pinned = true\n", "") + f'[models."{_SECOND}"]\ntitle = "t"\nsource = "tiny"\n'
_CLIENT = f"""
import time
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
CONFIG.APP.REMOTE_LOGGING = False
models = {{id: TransformersModel(id, task="text-generation") for id in ({TINY_ID!r}, {_SECOND!r})}}

def send(key, id):
    CONFIG.API.APIKEY = key
    model = models[id]
    with model.trace("Hello", remote=True, blocking=False) as tracer:
        import time
        time.sleep(0.2)
        kept = model.transformer.h[0].output.save()
    return tracer.backend

send(FLOODING, {TINY_ID!r})
until = time.monotonic() + SECONDS
light, flood = [], []
while time.monotonic() < until:
    flood = [job for job in flood if job() is None]
    flood += [send(FLOODING, {TINY_ID!r}) for _ in range(8 - len(flood))]
    if not light or light[-1]() is not None:
        light.append(send(LIGHT, {_SECOND!r}))
    time.sleep(0.2)
while not all(job() is not None for job in light + flood):
    time.sleep(0.2)
print("DONE")
"""


def situation(models: int, nodes: int, seed: int) -> tuple[list[Device], list[Need], list[Copy]]:
    """Nodes of eight devices, half of the models loaded and half of them wanted."""
    drawn = random.Random(seed)
    devices, room = [], {}
    for node in map(str, range(nodes)):
        devices.append(Device(node, 500 * _GB, node=node, beside=True))
        devices += [Device(f"{node}/cuda:{number}", 48 * _GB, node=node) for number in range(8)]
    room = {device.name: device.capacity_bytes for device in devices if not device.beside}
    needs, copies = [], []
    for number in range(models):
        layers = tuple([drawn.randrange(_GB // 4, 3 * _GB)] * 32)
        if number % 2:
            needs.append(Need(f"m{number}", sum(layers), drawn.random(), spread=Spread(layers, 4 * _GB)))
            continue
        device, size = drawn.choice(list(room)), drawn.randrange(_GB, 24 * _GB)
        if size <= room[device]:
            room[device] -= size
            parts = (Part(device, size), Part(device.partition("/")[0], 4 * _GB))
            copies.append(Copy(f"m{number}", parts, 0, drawn.random(), busy=drawn.random() < 0.5))
    return devices, needs, copies


def decision_ms(models: int, nodes: int) -> float:
    """Median time of one decision."""
    taken = []
    for seed in range(SITUATIONS):
        devices, needs, copies = situation(models, nodes, seed)
        began = time.perf_counter()
        plan(devices, needs, copies, 100.0, 30.0)
        taken.append((time.perf_counter() - began) * 1000)
    return round(statistics.median(taken), 3)


def copy_ms(size_bytes: int, target: torch.Tensor | None = None) -> float:
    """A copy of so much memory: into ``target``, or into memory that nobody has touched yet."""
    source = torch.ones(size_bytes, dtype=torch.uint8)
    began = time.perf_counter()
    (torch.empty(size_bytes, dtype=torch.uint8) if target is None else target).copy_(source)
    return (time.perf_counter() - began) * 1000


async def warm() -> dict[str, Any]:
    """Load, park and wake the demo model."""
    home, settings = Installation(), BackendSettings()
    entry = Catalogue.load(home.models_file).find(DEMO_ID)
    snapshot = prepare(entry, home.models_dir, lambda line: print(line, file=sys.stderr))
    limits = Limits(settings.result_limit_bytes, settings.executor_memory_bytes, settings.executor_tmp_bytes, 1)
    pool = ExecutorPool(entry.model_dump(mode="json"), Path(snapshot.folder), limits, ready=2)
    began = time.perf_counter()
    await pool.start(lambda _: None)
    loaded_s = time.perf_counter() - began
    size_bytes = weight_bytes(snapshot, entry.dtype)
    target = torch.ones(size_bytes, dtype=torch.uint8)
    taken: dict[str, list[float]] = {"back_ms": [], "copy_ms": [], "copy_into_new_memory_ms": []}
    for _ in range(ROUNDS):
        await pool.park()
        await asyncio.sleep(0.2)  # its executors are gone
        began = time.perf_counter()
        await pool.wake()
        taken["back_ms"].append((time.perf_counter() - began) * 1000)
        taken["copy_ms"].append(copy_ms(size_bytes, target))
        taken["copy_into_new_memory_ms"].append(copy_ms(size_bytes))
    await pool.stop()
    medians = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    ratio = round(medians["back_ms"] / medians["copy_ms"], 2)
    return {"weights_mb": round(size_bytes / 1e6), "load_s": round(loaded_s, 1), **medians, "back_to_copy": ratio}


def turns(seconds: int, warm_bytes: int) -> dict[str, Any]:
    """Two models in the place of one."""
    with installation(f"bench-turns-{warm_bytes}") as workbench:
        home = workbench.installation
        limits = (
            f"slots = 1\nmodel_turn_s = {TURN_S}\nmodel_memory_bytes = 700_000_000\nwarm_memory_bytes = {warm_bytes}\n"
        )
        home.config_file.write_text(f"[backend]\n{limits}")
        home.models_file.write_text(_CATALOGUE)
        workbench.up()
        for model in (TINY_ID, _SECOND):  # each loaded once before: files are there, needs are measured
            ordered = workbench.edif("models", "deploy", model)
            if ordered.returncode:
                sys.exit(ordered.stderr)
        keys = f"FLOODING, LIGHT = {workbench.key('flood')!r}, {workbench.key('light')!r}\nSECONDS = {seconds}\n"
        done = workbench.run_client(keys + _CLIENT, timeout_s=seconds + 600)
        if "DONE" not in done.stdout:
            sys.exit(done.stderr)
        table = open_jobs(home.jobs_database)
        events = table.events_after(0, limit=10_000_000)
        users = {job.id: job.user for user in ("flood", "light") for job in table.newest(user, limit=100_000)}
        table.close()
    came: dict[str, float] = {}
    waits: dict[str, list[float]] = {"flood": [], "light": []}
    order = []
    for event in events:
        if event.job not in users:
            continue
        came.setdefault(event.job, event.at)
        if event.kind == State.RUNNING:
            waits[users[event.job]].append(event.at - came[event.job])
            order.append(users[event.job])
    return {
        "warm_mb": warm_bytes // 10**6,
        "turn_s": TURN_S,
        "jobs": {user: len(found) for user, found in waits.items()},
        "changes": sum(one != other for one, other in itertools.pairwise(order)),
        "light_wait_s": {
            "median": round(statistics.median(waits["light"]), 1),
            "most": round(max(waits["light"]), 1),
        },
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turns", type=int, default=0, metavar="SECONDS", help="also let two models take turns")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: dict[str, Any] = {
        "decision_ms": {f"{models} models, {8 * nodes} devices": decision_ms(models, nodes) for models, nodes in SIZES},
        "warm": asyncio.run(warm()),
    }
    if arguments.turns:
        figures["turns"] = [turns(arguments.turns, warm_bytes) for warm_bytes in (700_000_000, 0)]
    if arguments.json:
        print(json.dumps({"benchmark": "placement", "cores": os.cpu_count(), "load": os.getloadavg()[0], **figures}))
        return
    table = Table("Medians", "")
    for name, values in figures.items():
        for found in values if isinstance(values, list) else [values]:
            for key, value in found.items():
                table.add_row(f"{name}: {key}", str(value))
    Console().print(table)


if __name__ == "__main__":
    main()
