"""A dozen attempts to escape, sent as a user sends jobs: stock client, gateway, dispatcher, Ray, jail.

They are aimed at the real thing: this installation's jobs, secrets and ports.  The rest of the suite, with the
controls, is ``test_escapes.py``.
"""

from __future__ import annotations

import json
import os
from typing import Any

from tests.conftest import CHECKOUT, Workbench

NAMES = (
    "read a secret of another user",
    "read the jobs database",
    "read the list of accounts",
    "list_home_folders",
    "write_to_the_model",
    "patch_an_installed_package",
    "reach_a_secret_through_a_link",
    "see_other_processes",
    "signal_another",
    "start_a_process",
    "connect a port",
    "socket netlink",
    "call unshare",
    "memory_in_files_without_a_name",
    "have_an_inherited_secret",
)
SCRIPT = """
import json, sys
sys.path.insert(0, {checkout!r})
import nnsight, torch
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from tests.escapes import attempts, bombs, files, kernel_calls, neighbours, network
CONFIG.APP.REMOTE_LOGGING = False
modules = (attempts, bombs, files, kernel_calls, neighbours, network)
for module in modules:
    nnsight.register(module)
codes = {{attempt.name: attempt.code for module in modules[1:] for attempt in module.ATTEMPTS}}
scene = json.loads({scene!r})
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
came = {{}}
for name in {names!r}:
    code = codes[name]
    try:
        with model.trace(torch.tensor([[0, 1, 2]]), remote=True):
            answer = (code(scene) or 0).save()
        came[name] = str(answer) if answer else ""
    except Exception as error:
        came[name] = ""
        came["why " + name] = str(error)[-300:]
with model.trace(torch.tensor([[0, 1, 2]]), remote=True):
    answer = (40 + 2).save()
print("TOLD", json.dumps([came, answer]))
"""


def test_nothing_gets_out_through_the_gateway(workbench: Workbench) -> None:
    installation = workbench.installation
    secret = next(path for path in (installation.home / "secrets").iterdir() if path.stat().st_size)
    scene: dict[str, Any] = {
        "secret": str(secret),
        "database": str(installation.jobs_database),
        "home": str(installation.home / "hub"),
        "model_file": str(next(installation.models_dir.glob("edif--tiny*/*.safetensors"))),
        "victim": os.getpid(),
        "port": installation.port,
    }
    script = SCRIPT.format(checkout=str(CHECKOUT), scene=json.dumps(scene), names=NAMES)
    done = workbench.run_client(script, "mallory", timeout_s=200)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout[-1000:] + done.stderr[-3000:]
    came, answer = json.loads(lines[0].removeprefix("TOLD "))
    assert {name: came[name] for name in NAMES} == dict.fromkeys(NAMES, "")
    # each was answered by the jail's refusal, and not by a fault on the way there
    refusals = ("PermissionError", "FileNotFoundError", "ProcessLookupError", "OSError", "NotADirectoryError")
    told = {name: why for name, why in came.items() if name.startswith("why ")}
    assert [why for why in told.values() if not any(word in why for word in refusals)] == []
    assert len(told) >= 10
    assert answer == 42
