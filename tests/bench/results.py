"""``edif bench results``: large results made, sent and loaded; the transfer against plain HTTP; memory on the way.

Runs against the installation that is up.  Every result is random float32 values, made inside the job, which no
compression shrinks.  "Local" makes, saves, loads and sums up the same tensor in one process; "plain HTTP" is Python's
own file server on the same bytes, read with the same loop.  All take turns.  The memory of gateway and replica is
sampled while results are on their way.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import torch
from _key import new_key
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.schema.config import CONFIG
from rich.console import Console
from rich.table import Table

from edif.remote import EdifBackend
from edif.serving import ask
from edif_backend.models.catalogue import TINY_ID
from edif_protocol.installation import Installation

MB = 1_000_000
SIZES_MB = (10, 100, 500, 1000)
REPEATS = 3


class Memory(threading.Thread):
    """Samples the resident memory of the server's processes until told to stop."""

    def __init__(self, processes: dict[str, psutil.Process]) -> None:
        super().__init__(daemon=True)
        self._processes = processes
        self._stop_now = threading.Event()
        self.before = {name: self._now(process) for name, process in processes.items()}
        self.peak = dict(self.before)

    @staticmethod
    def _now(process: psutil.Process) -> float:
        return float(process.memory_info().rss / MB)

    def run(self) -> None:
        while not self._stop_now.wait(0.01):
            for name, process in self._processes.items():
                self.peak[name] = max(self.peak[name], self._now(process))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join()


def servers(installation: Installation) -> dict[str, psutil.Process]:
    """Gateway and replica of this installation."""
    found = {}
    for process in psutil.process_iter(["cmdline", "environ"]):
        line = " ".join(process.info["cmdline"] or [])
        if (process.info["environ"] or {}).get("EDIF_HOME") != str(installation.home):
            continue
        if "edif_backend.gateway" in line:
            found["gateway"] = process
        elif line.startswith("ray::Replica"):
            found[f"replica {process.pid}"] = process
    return found


def made(model: TransformersModel, kind: type[RemoteBackend], key: str, megabytes: int) -> tuple[float, float, str]:
    """Seconds of one trace until its tensor is summed up here, of its forward, and its job."""
    values = megabytes * MB // 4
    backend = kind(model.to_model_key(), env=model._remoteable_get_env(), api_key=key)
    jobs: list[str] = []
    post = backend._post

    def noting(*sent: Any) -> Any:
        response = post(*sent)
        jobs.append(response.id)
        return response

    backend._post = noting
    began = time.perf_counter()
    with model.trace("A prompt", backend=backend):
        base = torch.randn(1_000_000)
        big = base.repeat(values // 1_000_000 + 1)[:values].clone().save()
    assert len(big) == values
    float(big.sum())  # every page is looked at
    seconds = time.perf_counter() - began
    del big
    gc.collect()
    return seconds, float(backend.meta["seconds"]["run"]), jobs[-1]


def local(folder: Path, megabytes: int) -> float:
    """Seconds to make, save, load and sum up the same tensor in this process alone."""
    values = megabytes * MB // 4
    file = folder / f"bench-{os.getpid()}"
    began = time.perf_counter()
    base = torch.randn(1_000_000)
    torch.save({"big": base.repeat(values // 1_000_000 + 1)[:values].clone()}, file)
    float(torch.load(file, mmap=True)["big"].sum())
    seconds = time.perf_counter() - began
    file.unlink()
    return seconds


def transfer(url: str) -> float:
    """Seconds to read everything behind ``url``."""
    buffer = memoryview(bytearray(1 << 20))
    began = time.perf_counter()
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - a link of the gateway or of the server above
        assert isinstance(answer, http.client.HTTPResponse)
        while answer.readinto(buffer):
            pass
    return time.perf_counter() - began


@contextlib.contextmanager
def plain_http(folder: Path) -> Iterator[str]:
    """Python's own file server, in a process of its own."""
    line = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout
        port = server.stdout.readline().split(" port ")[1].split()[0]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def measure(installation: Installation, model: TransformersModel, key: str, megabytes: int) -> dict[str, Any]:
    """Figures of one size."""
    clients = {"edif": EdifBackend, "stock": RemoteBackend}
    taken: dict[str, list[float]] = {name: [] for name in (*clients, "local", "gateway", "plain HTTP", "run")}
    with Memory(servers(installation)) as memory:
        for _ in range(REPEATS):
            taken["local"].append(local(installation.home, megabytes))
            for name, kind in clients.items():
                seconds, ran, job = made(model, kind, key, megabytes)
                taken[name].append(seconds)
                taken["run"].append(ran)
        answer = ask(f"/response/{job}")
        file = next((installation.objects_dir / "results").glob(f"{job}-*"))
        with plain_http(file.parent) as plain:
            for _ in range(REPEATS + 1):
                taken["gateway"].append(transfer(answer["data"]))
                taken["plain HTTP"].append(transfer(f"{plain}/{file.name}"))
    speeds = {name: round(megabytes / statistics.median(values), 1) for name, values in taken.items()}
    return {
        "megabytes": megabytes,
        "edif_mb_per_s": speeds["edif"],
        "stock_mb_per_s": speeds["stock"],
        "local_mb_per_s": speeds["local"],
        "edif_to_local": round(speeds["edif"] / speeds["local"], 2),
        "gateway_mb_per_s": speeds["gateway"],
        "plain_http_mb_per_s": speeds["plain HTTP"],
        "transfer_ratio": round(speeds["gateway"] / speeds["plain HTTP"], 2),
        "run_s": round(statistics.median(taken["run"]), 2),
        "memory_mb": {name: [round(memory.before[name]), round(memory.peak[name])] for name in memory.peak},
    }


def main() -> None:
    """Measure every size and print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES_MB, help="in MB")
    options = parser.parse_args()
    installation = Installation()
    key = new_key()
    CONFIG.API.HOST = installation.url("gateway")
    CONFIG.APP.REMOTE_LOGGING = False
    os.environ["NDIF_API_KEY"] = key
    model = TransformersModel(TINY_ID, task="text-generation")
    made(model, EdifBackend, key, 1)  # warm
    figures = [measure(installation, model, key, megabytes) for megabytes in options.sizes]
    if options.json:
        print(json.dumps({"benchmark": "results", "cores": os.cpu_count(), "sizes": figures}))
        return
    table = Table("", *(f"{figure['megabytes']} MB" for figure in figures))
    for name in [name for name in figures[0] if name not in ("megabytes", "memory_mb")]:
        table.add_row(name, *(str(figure[name]) for figure in figures))
    for name in figures[0]["memory_mb"]:
        cells = (figure["memory_mb"].get(name, ["?", "?"]) for figure in figures)
        table.add_row(f"{name}: MB before, peak", *("{} → {}".format(*cell) for cell in cells))
    Console().print(table)


if __name__ == "__main__":
    main()
