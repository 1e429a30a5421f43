"""Two nodes of a Ray cluster, simulated on this machine: copies are placed on both, and outlive the death of one."""

from __future__ import annotations

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

MODEL = "edif/tiny-gpt2"
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
    made.installation.config_file.write_text("[backend]\nslots = 1\nmodel_memory_bytes = 1_300_000_000\n")
    made.up()
    return made


@pytest.fixture
def second_node(running: Any) -> Iterator[psutil.Process]:
    """Another node; its raylet."""
    ray = next(program for program in programs(running.installation) if program.role == "ray")
    line = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--disable-usage-stats"]
    line += ["--address", ray.environment["RAY_ADDRESS"], "--memory", "1300000000", "--num-cpus", "1"]
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


def test_copies_are_on_both_nodes_and_come_up_on_the_other_when_one_dies(
    running: Any, second_node: psutil.Process
) -> None:
    running.installation.models_file.write_text(TWICE)
    until(lambda: copies(running) == 2, "two copies")
    assert len(below(running, second_node)) == 1
    assert "width 128" in running.run_client(TRACE).stdout
    os.kill(second_node.pid, signal.SIGKILL)
    until(lambda: copies(running) == 1, "the lost one is noticed")
    until(lambda: copies(running) == 2, "two copies on the node that is left")
    traced = running.run_client(TRACE)
    assert "width 128" in traced.stdout, traced.stderr
