"""``edif bench throughput``: requests per second at protocol level, and what each costs the server in CPU.

One payload of the tiny model is sent again and again by 1, 4 and 16 clients over kept connections (websocket and HTTP),
so that the cost of nnsight's client is left out.  Clients run in this process: on the same cores as the server.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import defaultdict
from typing import Any

import httpx
import psutil
import websocket
from _key import new_key
from nnsight import TransformersModel
from nnsight.schema.request import RequestModel
from rich.console import Console
from rich.table import Table

from edif_backend.models.catalogue import TINY_ID
from edif_protocol.installation import Installation

PROMPT = "The Eiffel Tower is in the city of"
SECONDS = 8.0
CLIENTS = (1, 4, 16)
#: Whose CPU it is, by what stands in a process's command line.
ROLES = {
    "edif_backend.gateway": "gateway",
    "edif_backend.dispatch": "dispatcher",
    "ray::Replica": "replica",
    "executors.zygote": "jail",
    "ray": "Ray",
}


class Sample:
    """A backend of nnsight that keeps the payload."""

    payload = b""

    def __call__(self, tracer: Any) -> None:
        self.payload = RequestModel.serialize(tracer, compress=True)


class Client:
    """One client: a websocket, an HTTP connection, one job after another."""

    def __init__(self, url: str, key: str, envelope: dict[str, Any], payload: bytes) -> None:
        self.url, self.key, self.envelope, self.payload = url, key, envelope, payload
        self.done = 0

    def run(self, until: float) -> None:
        socket = websocket.create_connection(
            self.url.replace("http", "ws", 1) + "/subscribe", header={"ndif-api-key": self.key}
        )
        session = json.loads(socket.recv())["session_id"]
        headers = {"ndif-api-key": self.key, "nnsight-version": "0.8.1"}
        with httpx.Client(base_url=self.url, headers=headers, timeout=60) as http:
            while time.monotonic() < until:
                data = {"data": json.dumps({**self.envelope, "session_id": session})}
                http.post("/request", data=data, files={"blob": ("request", self.payload)}).raise_for_status()
                while isinstance(message := socket.recv(), str):
                    if '"ERROR"' in message:
                        sys.exit(message)
                self.done += 1
        socket.close()


def server_cpu_s(installation: Installation) -> dict[str, float]:
    """CPU seconds that the processes of this installation have used by now, by role, ended children included."""
    total: dict[str, float] = defaultdict(float)
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.pid == os.getpid() or not _belongs(process, line, installation):
                continue
            times = process.cpu_times()
        except psutil.Error:
            continue
        role = next((role for part, role in ROLES.items() if part in line), "other")
        total[role] += times.user + times.system + times.children_user + times.children_system
    return total


def _belongs(process: psutil.Process, line: str, installation: Installation) -> bool:
    if "executors.zygote" in line:  # whose environment says nothing
        return f'"{installation.models_dir}"' in line
    return process.environ().get("EDIF_HOME") == str(installation.home)


def measure(
    installation: Installation, key: str, envelope: dict[str, Any], payload: bytes, count: int
) -> dict[str, Any]:
    """Figures for ``count`` clients."""
    url = installation.url("gateway")
    clients = [Client(url, key, envelope, payload) for _ in range(count)]
    before, began = server_cpu_s(installation), time.monotonic()
    threads = [threading.Thread(target=client.run, args=(began + SECONDS,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - began
    done = sum(client.done for client in clients)
    after = server_cpu_s(installation)
    cpu_ms = {role: round((after[role] - before[role]) / done * 1000, 1) for role in (*ROLES.values(), "other")}
    each = {"per_s": round(done / taken, 1), "server_cpu_ms": round(sum(cpu_ms.values()), 1)}
    return {"clients": count, "requests": done, **each, **cpu_ms}


def main() -> None:
    """Print the figures as a table or as one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    as_json = parser.parse_args().json
    installation = Installation()
    key = new_key()
    model = TransformersModel(TINY_ID, task="text-generation")
    sample = Sample()
    with model.trace(PROMPT, backend=sample):
        hidden = model.lm_head.input.save()  # noqa: F841 - found by its name on the server
    envelope = {"model_key": model.to_model_key(), "compress": True, "env": model._remoteable_get_env()}
    figures = [measure(installation, key, envelope, sample.payload, count) for count in (1, *CLIENTS)][1:]
    if as_json:
        print(json.dumps({"benchmark": "throughput", "cores": os.cpu_count(), "figures": figures}))
        return
    table = Table(*(name.replace("_", " ") for name in figures[0]))
    for figure in figures:
        table.add_row(*(str(value) for value in figure.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
