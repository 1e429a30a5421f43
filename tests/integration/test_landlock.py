"""Landlock and the giving up of rights, without the namespaces that hide the same things: the second lock alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edif_backend.executors import landlock

SCRIPT = """
import json, os, socket, sys
from edif_backend.executors import capabilities, landlock
folder, port, restricted = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "yes"
capabilities.no_new_privileges()
if restricted:
    landlock.restrict(writable=(folder + "/mine",))
def tried(act):
    try:
        act()
        return True
    except PermissionError:
        return False
deeds = {
    "write mine": lambda: open(folder + "/mine/new", "w").close(),
    "write null": lambda: open("/dev/null", "w").close(),
    "read": lambda: open(folder + "/theirs").read(),
    "write": lambda: open(folder + "/theirs", "a").close(),
    "cut off": lambda: os.truncate(folder + "/theirs", 0),
    "make": lambda: open(folder + "/other", "w").close(),
    "move away": lambda: os.rename(folder + "/theirs", folder + "/mine/theirs"),
    "connect": lambda: socket.create_connection(("127.0.0.1", port)).close(),
    "listen": lambda: socket.create_server(("127.0.0.1", 0)).close(),
    "abstract": lambda: socket.socket(socket.AF_UNIX).connect(chr(0) + "edif-" + str(port)),
    "signal": lambda: os.kill(os.getppid(), 0),
}
print(json.dumps({name: tried(act) for name, act in deeds.items()}))
"""
STILL = {"write mine", "write null", "read"}
SINCE = {"cut off": 3, "connect": 4, "listen": 4, "abstract": 6, "signal": 6}


@pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
@pytest.mark.parametrize("restricted", ["no", "yes"])
def test_only_ones_own_folder_is_written_and_nobody_is_reached(tmp_path: Path, restricted: str) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").write_text("theirs")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        port = server.getsockname()[1]
        abstract.bind(f"\0edif-{port}")
        abstract.listen()
        line = [sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path), str(port), restricted]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    allowed = {name for name, could in json.loads(done.stdout).items() if could}
    everything = set(json.loads(done.stdout))
    unknown_here = {name for name, version in SINCE.items() if landlock.abi() < version}
    assert allowed == (everything if restricted == "no" else STILL | unknown_here)
