"""Two nodes of a Ray cluster with devices, all simulated on this machine.

Copies are placed on both nodes, each cut by layers over devices of its node, and outlive the death of one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from edif_backend.cli.programs import programs
from edif_backend.models.devices import resources, simulated

MODEL = "edif/tiny-gpt2"
#: Too small for the model's 4 MB, and large enough for any two of its pieces.
DEVICES = (2_500_000,) * 4
TRACE = f"""
from nnsight import TransformersModel
model = TransformersModel({MODEL!r}, task="text-generation")
with model.trace("Hello", remote=True):
    hidden = model.transformer.h[1].output.save()
print("width", hidden.shape[-1])
"""
TWICE = f'[models."{MODEL}"]\ntitle = "t"\nsource = "tiny"\npurpose = "test"\npinned = true\nreplicas = 2\n'


@pytest.fixture(scope="module")
def running(new_installation: Callable[[str], Any]) -> Any:
    made = new_installation("nodes")
    devices = f"simulated_devices = {list(DEVICES)}"
    made.installation.config_file.write_text(f"[backend]\nslots = 1\nmodel_memory_bytes = 1_300_000_000\n{devices}\n")
    made.up()
    return made


@pytest.fixture
def second_node(running: Any) -> Iterator[psutil.Process]:
    """Another node; its raylet."""
    ray = next(program for program in programs(running.installation) if program.role == "ray")
    line = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"]
    line += ["--address", ray.environment["RAY_ADDRESS"], "--memory", "1300000000", "--num-cpus", "1"]
    line += ["--resources", json.dumps(resources(0, simulated(DEVICES)))]
    line += ["--object-store-memory", str(100 << 20), "--node-ip-address", running.installation.host]
    environment = {**running.operator_environment(), **ray.environment, "EDIF_ROLE": "ray"}
    node = subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    process = psutil.Process(node.pid)
    try:
        until(lambda: any(child.name() == "raylet" for child in process.children(True)), "a second node")
        yield next(child for child in process.children(True) if child.name() == "raylet")
    finally:
        for child in (*process.children(True), process):
            child.kill()
        node.wait()


def until(condition: Callable[[], bool], what: str, patience_s: float = 120) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.5)


def copies(running: Any) -> int:
    (found,) = running.json("models")
    return int(found["replicas"]) if found["state"] == "RUNNING" else 0


def below(running: Any, raylet: psutil.Process) -> list[int]:
    """The replicas of the node of ``raylet``."""
    replicas = {member["pid"] for member in running.json("pids") if member["role"] == "replica"}
    return [child.pid for child in raylet.children(True) if child.pid in replicas]


def parts_of(running: Any, raylet: psutil.Process, *, on_it: bool) -> list[tuple[str, int]]:
    """The devices of a copy, by the command line of its zygote: on the node of ``raylet``, or on the other one."""
    zygotes = {member["pid"] for member in running.json("pids") if member["role"] == "zygote"}
    second = {child.pid for child in raylet.children(True)}
    pid = next(pid for pid in zygotes if (pid in second) is on_it)
    config = json.loads(psutil.Process(pid).cmdline()[-1])
    return [(device, size) for device, size in config["pretended"]]


def test_copies_are_on_both_nodes_and_the_one_that_is_left_serves_when_the_other_dies(
    running: Any, second_node: psutil.Process
) -> None:
    running.installation.models_file.write_text(TWICE)
    until(lambda: copies(running) == 2, "two copies")
    assert len(below(running, second_node)) == 1
    for parts in (parts_of(running, second_node, on_it=True), parts_of(running, second_node, on_it=False)):
        assert len(parts) >= 2
        assert len({device for device, _ in parts}) == len(parts)
        assert all(device.startswith("simulated:") and size <= 2_500_000 for device, size in parts)
    assert "width 128" in running.run_client(TRACE).stdout
    os.kill(second_node.pid, signal.SIGKILL)
    until(lambda: copies(running) == 1, "the lost one is noticed")
    traced = running.run_client(TRACE)
    assert "width 128" in traced.stdout, traced.stderr
