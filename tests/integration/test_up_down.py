"""`edif up` to `edif down` for real: what runs in between, what survives which death, and that nothing stays behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from edif_backend.cli.programs import ROLES

#: An unmodified client: the tiny model, one saved activation.
TRACE = """
from nnsight import TransformersModel
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
with model.trace("Hello", remote=True):
    hidden = model.transformer.h[1].output.save()
print("width", hidden.shape[-1])
"""


@pytest.fixture(scope="module")
def running(new_installation: Callable[[str], Any]) -> Any:
    """An installation of this module's own: its processes are killed."""
    installed = new_installation("up-down")
    installed.up()
    return installed


def _members(workbench: Any, role: str) -> list[int]:
    return [member["pid"] for member in workbench.json("pids") if member["role"] == role]


def _kill(workbench: Any, role: str) -> int:
    pids = _members(workbench, role)
    assert pids, f"no {role} is running"
    os.kill(pids[0], signal.SIGKILL)
    return pids[0]


def _until(condition: Callable[[], bool], what: str, patience_s: float = 90) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.5)


def _serving(workbench: Any) -> bool:
    return bool(workbench.edif("status").returncode == 0)


def test_status_shows_every_program_running_and_the_model_served(running: Any) -> None:
    status = running.json("status")
    assert status["serving"] is True
    assert {found["role"] for found in status["processes"]} == set(ROLES)
    assert {found["state"] for found in status["processes"]} == {"RUNNING"}
    assert status["models"]["edif/tiny-gpt2"]["application_state"] == "RUNNING"


def test_pids_name_every_kind_of_process_once_started(running: Any) -> None:
    roles = {member["role"] for member in running.json("pids")}
    assert {"supervisor", "ray", "proxy", "hub", "gateway", "dispatcher", "replica", "zygote", "executor"} <= roles


def test_a_second_up_says_where_it_already_runs(running: Any) -> None:
    again = running.edif("up", "--detach")
    assert again.returncode == 0
    assert "already running" in again.stderr
    assert running.installation.url("proxy") in again.stderr


def test_env_prints_one_line_that_a_shell_understands(running: Any) -> None:
    printed = running.edif("env", "--user", "ada").stdout
    shown = subprocess.run(
        ["sh", "-c", 'eval "$1"; echo "$NDIF_HOST $HF_ENDPOINT ${#NDIF_API_KEY}"', "sh", printed],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert shown[:2] == [running.installation.url("gateway"), running.installation.mirror_url]
    assert int(shown[2]) >= 32


def test_a_key_is_listed_without_itself_and_can_be_revoked(running: Any) -> None:
    made = running.json("key", "new", "--user", "grace", "--expires", "1d")
    listed = running.json("key", "list", "--user", "grace")
    assert [key["id"] for key in listed] == [made["id"]]
    assert made["key"] not in str(listed)
    assert running.edif("key", "revoke", made["id"]).returncode == 0
    assert running.json("key", "list", "--user", "grace") == []
    assert running.edif("key", "revoke", made["id"]).returncode == 1


def test_doctor_finds_nothing_to_mend(running: Any) -> None:
    found = running.edif("doctor")
    assert found.returncode == 0, found.stdout


def test_a_trace_works_and_is_listed_as_a_job(running: Any) -> None:
    traced = running.run_client(TRACE)
    assert "width 128" in traced.stdout, traced.stderr
    assert running.json("jobs", "--user", "ada")[0]["state"] == "COMPLETED"


@pytest.mark.parametrize("role", ["gateway", "dispatcher"])
def test_a_killed_program_is_started_again_and_the_next_trace_works(running: Any, role: str) -> None:
    killed = _kill(running, role)
    _until(lambda: [pid for pid in _members(running, role) if pid != killed] != [], f"another {role}")
    _until(lambda: _serving(running), "serving again")
    traced = running.run_client(TRACE)
    assert "width 128" in traced.stdout, traced.stderr


def test_a_killed_ray_is_started_again_and_the_next_trace_works(running: Any) -> None:
    [node] = [
        member["pid"] for member in running.json("pids") if member["role"] == "ray" and "ray start" in member["command"]
    ]
    replicas = _members(running, "replica")
    os.kill(node, signal.SIGKILL)
    _until(lambda: set(_members(running, "replica")).isdisjoint(replicas), "the old replicas' end")
    _until(lambda: _members(running, "replica") != [] and _serving(running), "serving again", 150)
    traced = running.run_client(TRACE)
    assert "width 128" in traced.stdout, traced.stderr


def test_a_taken_port_is_named_with_its_owner(new_installation: Callable[[str], Any]) -> None:
    installed = new_installation("taken")
    with socket.create_server(("127.0.0.1", installed.installation.ports["hub"])):
        failed = installed.edif("up", "--detach")
    assert failed.returncode == 1
    assert f"Port {installed.installation.ports['hub']} (for the hub) is taken" in failed.stderr
    assert f"pid {os.getpid()}" in failed.stderr
    assert installed.json("pids") == []


def test_without_bubblewrap_nothing_starts(new_installation: Callable[[str], Any], tmp_path: Path) -> None:
    installed = new_installation("no-bwrap")
    failed = installed.edif("up", "--detach", PATH=str(tmp_path))
    assert failed.returncode == 1
    assert "apt-get install bubblewrap" in failed.stderr
    assert installed.json("pids") == []


def test_a_broken_catalogue_is_told_before_anything_starts(new_installation: Callable[[str], Any]) -> None:
    installed = new_installation("broken-catalogue")
    installed.installation.models_file.write_text('[models."a/b"]\ntitel = "x"\n')
    failed = installed.edif("up", "--detach")
    assert failed.returncode == 1
    assert '"title" is missing' in failed.stderr
    assert installed.json("pids") == []


def test_a_program_that_keeps_dying_ends_the_start_with_its_log(new_installation: Callable[[str], Any]) -> None:
    installed = new_installation("dying")
    installed.installation.config_file.write_text("[hub]\nno_such_setting = 1\n")
    failed = installed.edif("up", "--detach")
    assert failed.returncode == 1
    assert "The program hub keeps ending" in failed.stderr
    assert "no_such_setting" in failed.stderr
    assert installed.json("pids") == []


def test_down_leaves_nothing_even_after_the_supervisor_was_killed(running: Any) -> None:
    before = [member["pid"] for member in running.json("pids")]
    _kill(running, "supervisor")
    assert running.edif("down").returncode == 0
    assert running.json("pids") == []
    alive = [pid for pid in before if _alive(pid)]
    assert alive == []
    assert running.edif("status").returncode == 1


def test_a_foreground_up_ends_with_everything_on_an_interrupt(running: Any) -> None:
    foreground = subprocess.Popen(
        running.command("up"),
        env=running.operator_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _until(lambda: _serving(running), "serving", 150)
    foreground.send_signal(signal.SIGINT)
    output, _ = foreground.communicate(timeout=60)
    assert foreground.returncode == 0, output
    assert running.installation.secret("user-password") in output
    assert running.json("pids") == []


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
