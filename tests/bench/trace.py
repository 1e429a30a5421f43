"""``edif bench trace``: a warm remote trace against the same trace run in one process, and where the time goes.

Runs against the installation that is up.  Local, stock client, eDIF client, and both clients against a server that
answers at once (``_stub.py``: what a client needs by itself) take turns, so that all meet the same load; figures are
medians.  Local and remote run with one torch thread each, on the same machine.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from _key import new_key
from nnsight import TransformersModel
from nnsight.intervention.backends.remote import RemoteBackend
from nnsight.schema.config import CONFIG
from rich.console import Console
from rich.table import Table

from edif.remote import EdifBackend
from edif_backend.jobs import Jobs, open_jobs
from edif_backend.models.catalogue import DEMO_ID, TINY_ID, Catalogue
from edif_backend.models.snapshots import prepare
from edif_backend.objects import open_objects
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

PROMPT = "The Eiffel Tower is in the city of"
REPEATS = {TINY_ID: 40, DEMO_ID: 20}
WARM_UP = 3


def stamped(kind: type[RemoteBackend]) -> type[RemoteBackend]:
    """``kind``, noting which job it sent."""

    class Stamped(kind):  # type: ignore[valid-type, misc]
        job = ""

        def _post(self, request: Any, blob: bytes) -> Any:
            response = super()._post(request, blob)
            self.job = response.id
            return response

    return Stamped


def once(model: TransformersModel, backend: RemoteBackend | None) -> tuple[float, float]:
    """Begin and end of one trace that saves one hidden state."""
    began = time.time()
    with model.trace(PROMPT, backend=backend):
        hidden = model.lm_head.input.save()
    assert hidden.shape[0] == 1
    return began, time.time()


def steps(jobs: Jobs, job: str, began: float, ended: float) -> dict[str, float]:
    """Milliseconds of each leg of one job's way."""
    at = {event.kind: event.at for event in jobs.events_after(0, limit=1_000_000) if event.job == job}
    done = jobs.job(job)
    assert done is not None
    seconds = done.meta["seconds"]
    parts = {
        "client and gateway, in": at["RECEIVED"] - began,
        "dispatch": at["DISPATCHED"] - at["RECEIVED"],
        "Ray and replica": at["RUNNING"] - at["DISPATCHED"],
        "executor: run": seconds["run"],
        "executor: pack": seconds["pack"],
        "replica and dispatch, out": at["COMPLETED"] - at["RUNNING"] - seconds["run"] - seconds["pack"],
        "result, to the client": ended - at["COMPLETED"],
    }
    return {name: value * 1000 for name, value in parts.items()}


def result_of(installation: Installation, jobs: Jobs, id: str) -> bytes:
    """The stored result of a job."""
    job = jobs.job(id)
    assert job is not None
    assert job.result is not None
    return open_objects(installation.objects_dir, BackendSettings()).read(job.result)


@contextlib.contextmanager
def stub(result: bytes) -> Iterator[str]:
    """A server that answers every trace with ``result``, in a process of its own; gives its address."""
    with tempfile.NamedTemporaryFile() as file, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        file.write(result)
        file.flush()
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("_stub.py")), str(port), file.name]
        ) as server:
            try:
                _wait_for(port)
                yield f"http://127.0.0.1:{port}"
            finally:
                server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    sys.exit("The stub server did not start.")


def measure(installation: Installation, key: str, id: str) -> dict[str, Any]:
    """Figures of one model."""
    entry = Catalogue.load(installation.models_file).find(id)
    snapshot = prepare(entry, installation.models_dir, lambda line: print(line, file=sys.stderr))
    local = TransformersModel(str(snapshot.folder), task=entry.task, dispatch=True)
    remote = TransformersModel(id, task=entry.task)
    jobs = open_jobs(installation.jobs_database)
    backends: dict[str, Any] = {
        name: stamped(kind)(remote.to_model_key(), env=remote._remoteable_get_env(), api_key=key)
        for name, kind in {"stock": RemoteBackend, "edif": EdifBackend}.items()
    }
    backends["edif"].model = remote
    once(remote, backends["stock"])
    taken: dict[str, list[float]] = defaultdict(list)
    legs: dict[str, list[float]] = defaultdict(list)
    with stub(result_of(installation, jobs, backends["stock"].job)) as url:
        for name in ("stock", "edif"):
            backends[f"{name}_at_once"] = copy.copy(backends[name])
            backends[f"{name}_at_once"].host = url
            backends[f"{name}_at_once"].ws_host = url.replace("http", "ws", 1)
        for turn in range(WARM_UP + REPEATS[id]):
            for name, backend in {"local": None, **backends}.items():
                began, ended = once(remote if backend else local, backend)
                if turn < WARM_UP:
                    continue
                taken[name].append((ended - began) * 1000)
                if name == "edif":
                    for leg, value in steps(jobs, backends["edif"].job, began, ended).items():
                        legs[leg].append(value)
    jobs.close()
    medians = {name: round(statistics.median(values), 1) for name, values in taken.items()}
    return {
        "model": id,
        "repeats": REPEATS[id],
        **{f"{name}_ms": value for name, value in medians.items()},
        **{f"{name}_ratio": round(medians[name] / medians["local"], 2) for name in ("stock", "edif")},
        **{f"{name}_added_ms": round(medians[name] - medians["local"], 1) for name in ("stock", "edif")},
        **{f"{name}_beyond_ms": round(medians[name] - medians[f"{name}_at_once"], 1) for name in ("stock", "edif")},
        "legs_ms": {leg: round(statistics.median(values), 1) for leg, values in legs.items()},
    }


def main() -> None:
    """Measure both models and print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    installation = Installation()
    key = new_key()
    CONFIG.API.HOST = installation.url("gateway")
    CONFIG.APP.REMOTE_LOGGING = False
    torch.set_num_threads(1)
    figures = [measure(installation, key, id) for id in (TINY_ID, DEMO_ID)]
    if as_json:
        print(json.dumps({"benchmark": "trace", "cores": os.cpu_count(), "models": figures}))
        return
    table = Table("Medians in ms", *(figure["model"] for figure in figures))
    for name in (
        "local_ms",
        "stock_ms",
        "stock_added_ms",
        "stock_ratio",
        "edif_ms",
        "edif_added_ms",
        "edif_ratio",
        "stock_at_once_ms",
        "stock_beyond_ms",
        "edif_at_once_ms",
        "edif_beyond_ms",
    ):
        table.add_row(name, *(str(figure[name]) for figure in figures))
    table.add_section()
    for leg in figures[0]["legs_ms"]:
        table.add_row(f"edif, {leg}", *(str(figure["legs_ms"][leg]) for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
