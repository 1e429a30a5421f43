"""``edif bench jail``: what the jail costs a job, in time and memory, and what the inner walls cost a fork.

Needs no running workbench.  Jobs go straight to a pool of executors, in turns with the same trace in this process:
``warm`` on an executor kept for its user, ``ready`` on one forked ahead, ``forked`` on one that is forked for it.  Then
a process of its own forks behind the walls (``walled``) and without Landlock, seccomp and the dropping of rights
(``plain``), in turns.  Figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil
import torch
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from rich.console import Console
from rich.table import Table

from edif_backend.executors import capabilities, jail, walls
from edif_backend.executors.executor import _REST_S
from edif_backend.executors.pool import ExecutorPool, Limits, Work
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, Catalogue
from edif_backend.models.snapshots import prepare
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

ROUNDS = 60
JOBS = 20
SETTLE_S = 0.15  # forks made ahead are ready by then
PROMPT = "The Eiffel Tower is in the city of"
_MEMORY_BYTES, _TMP_BYTES = 1 << 30, 1 << 20


def fork_ms(shown: list[str], hardened: bool) -> tuple[float, float]:
    """One executor's way behind the walls and its end: all of it, and the last wall alone, in milliseconds."""
    answer_out, answer_in = os.pipe()
    began = time.perf_counter()
    middle = os.fork()
    if middle == 0:
        walls.leave_namespaces()
        executor = os.fork()
        if executor == 0:
            walls.limit(_MEMORY_BYTES)
            walls.cover(_TMP_BYTES, shown)
            before = time.perf_counter()
            if hardened:
                walls.harden()
            os.write(answer_in, str((time.perf_counter() - before) * 1000).encode())
            os._exit(0)
        os.waitpid(executor, 0)
        os._exit(0)
    os.waitpid(middle, 0)
    whole = (time.perf_counter() - began) * 1000
    os.close(answer_in)
    with os.fdopen(answer_out, "rb") as file:
        return whole, float(file.read())


def inside() -> None:
    """Measure, in the jail."""
    capabilities.give_up_root()
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for name, hardened in (("plain", False), ("walled", True)):
            whole, last = fork_ms(sys.argv[2:], hardened)
            taken[f"{name}_ms"].append(whole)
            if hardened:
                taken["last_wall_ms"].append(last)
    print(json.dumps({name: round(statistics.median(values), 2) for name, values in taken.items()}))


class Nowhere:
    """Takes a result and drops it."""

    async def write(self, data: bytes) -> None:
        """Drop it."""


class Payload:
    """A backend of nnsight that keeps the payload."""

    data = b""

    def __call__(self, tracer: Any) -> None:
        self.data = RequestModel.serialize(tracer, compress=True)


def trace(model: TransformersModel, backend: Payload | None = None) -> None:
    """One prompt, one hidden state saved."""
    with model.trace(PROMPT, backend=backend):
        hidden = model.lm_head.input.save()  # noqa: F841 - as a user would


class Bench:
    """One model: a pool with executors forked ahead, one without, and the same trace in this process."""

    def __init__(self, id: str) -> None:
        installation, settings = Installation(), BackendSettings()
        entry = Catalogue.load(installation.models_file).find(id)
        snapshot = prepare(entry, installation.models_dir, lambda line: print(line, file=sys.stderr))
        self.local, payload = TransformersModel(str(snapshot.folder), task=entry.task, dispatch=True), Payload()
        trace(self.local, payload)
        self.payload = payload.data
        limits = Limits(settings.result_limit_bytes, settings.executor_memory_bytes, settings.executor_tmp_bytes, 1)
        self.ahead, self.bare = (
            ExecutorPool(entry.model_dump(mode="json"), snapshot.folder, limits, ready=ready) for ready in (2, 0)
        )

    async def job_ms(self, pool: ExecutorPool, user: str) -> float:
        """One job, until its result is here."""
        began = time.perf_counter()
        await pool.run(
            Work(
                user=user,
                compress=True,
                env={},
                payload=self.payload,
                sink=Nowhere(),
                keeper=Nowhere(),  # no job of a benchmark keeps anything
                time_limit_s=60,
            )
        )
        taken = (time.perf_counter() - began) * 1000
        await pool.judged()
        return taken

    async def per_s(self, users: int) -> float:
        """Jobs per second of so many users, each with an executor kept for them."""

        async def sweep(user: str) -> None:
            for _ in range(JOBS):
                await self.job_ms(self.ahead, user)

        began = time.perf_counter()
        await asyncio.gather(*(sweep(f"sweeper {number}") for number in range(users)))
        return users * JOBS / (time.perf_counter() - began)

    async def figures(self) -> dict[str, float]:
        """All of them."""
        for pool in (self.ahead, self.bare):
            await pool.start(lambda _: None)
        await self.job_ms(self.ahead, "warm")
        taken: dict[str, list[float]] = defaultdict(list)
        for turn in range(JOBS):
            began = time.perf_counter()
            trace(self.local)
            taken["local_ms"].append((time.perf_counter() - began) * 1000)
            for name, pool, user in (
                ("warm_ms", self.ahead, "warm"),
                ("ready_ms", self.ahead, f"ready {turn}"),
                ("forked_ms", self.bare, f"forked {turn}"),
            ):
                await asyncio.sleep(SETTLE_S)
                taken[name].append(await self.job_ms(pool, user))
        figures = {name: round(statistics.median(values), 1) for name, values in taken.items()}
        await asyncio.sleep(_REST_S + 0.5)
        figures["own_mb"] = round(max(own_bytes(executor.pid) for executor in self.ahead._kept) / 1e6, 1)
        rates = [(await self.per_s(1), await self.per_s(2)) for _ in range(3)]
        figures["two_to_one"] = round(statistics.median(two / one for one, two in rates), 2)
        for pool in (self.ahead, self.bare):
            await pool.stop()
        return figures


def own_bytes(pid: int) -> int:
    """What an executor shares with nobody; its pid is that in the zygote's namespace."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            status = Path(f"/proc/{process.pid}/status").read_text()
            pids = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid"))
            if len(pids) == 3 and int(pids[1]) == pid and os.getpid() in {p.pid for p in process.parents()}:
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
    return 0


def main() -> None:
    """Measure jobs, close this script in, show what it says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    models = {id: asyncio.run(Bench(id).figures()) for id in (TINY_ID, DEMO_ID)}
    script = Path(__file__).resolve()
    folder = str(script.parent)
    shown = [str(path) for path in jail.readable([])]
    line = jail.command([str(script), "inside", *shown], folders=[], environment={})
    separator = line.index("--")
    line[separator:separator] = ["--perms", "0755", "--dir", folder, "--ro-bind", folder, folder]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    figures = {"layers": str(jail.trial()), "rounds": ROUNDS, **json.loads(done.stdout)}
    figures["walls_add_ms"] = round(figures["walled_ms"] - figures["plain_ms"], 2)
    if as_json:
        print(json.dumps({"benchmark": "jail", "cores": os.cpu_count(), "models": models, **figures}))
        return
    jobs = Table("Jobs, medians", *models)
    for name in models[TINY_ID]:
        jobs.add_row(name, *(str(measured[name]) for measured in models.values()))
    Console().print(jobs)
    table = Table("Medians", "")
    for name, value in figures.items():
        table.add_row(name, str(value))
    Console().print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        inside()
    else:
        main()
