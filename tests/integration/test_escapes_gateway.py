"""Every attempt to escape, sent as a user sends jobs: stock client, gateway, dispatcher, Ray, jail.

They are aimed at the real thing too: this installation's jobs, results, secrets and sockets.  Each has its control, the
same code in a plain process, where it must work.  What needs the pool at hand is in ``test_escapes.py``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from tests.conftest import CHECKOUT, Workbench
from tests.escapes import attempts, bombs, files, kernel_calls, neighbours, network, workbench
from tests.escapes.control import Outside, control_is_possible, standing_by, steps

from edif_backend.cli.located import supervisor_socket
from edif_backend.jobs import open_jobs

MODULES = (neighbours, files, network, kernel_calls, bombs, workbench)
#: These go by limits that are far lower in test_escapes.py: an ordinary job may have 8 GB and a /tmp of 256 MB.
ALLOWED = {"memory_by_mapping", "memory_by_tensors", "fill /tmp", "fill /dev/shm"}
ATTEMPTS = [attempt for module in MODULES for attempt in module.ATTEMPTS if attempt.name not in ALLOWED]

for module in (attempts, *MODULES):
    cloudpickle.register_pickle_by_value(module)

SCRIPT = """
import json, sys
sys.path.insert(0, {checkout!r})
import nnsight, torch
from nnsight import TransformersModel
from nnsight.schema.config import CONFIG
from tests.escapes import attempts, bombs, files, kernel_calls, neighbours, network, workbench
CONFIG.APP.REMOTE_LOGGING = False
modules = (attempts, bombs, files, kernel_calls, neighbours, network, workbench)
for module in modules:
    nnsight.register(module)
known = {{attempt.name: attempt for module in modules[1:] for attempt in module.ATTEMPTS}}
with open({scene!r}) as file:
    scene, names = json.load(file)
model = TransformersModel("edif/tiny-gpt2", task="text-generation")
came = {{}}

def send(code):
    with model.trace(torch.tensor([[0, 1, 2]]), remote=True):
        answer = (code(scene) or 0).save()
    return answer

for name in names:
    for code in (known[name].code, known[name].then):
        if code is not None:
            try:
                came[name] = str(send(code) or "")
            except Exception as error:
                came[name] = ""
came["nothing hostile"] = str(send(lambda scene: len(scene)))
print("TOLD", json.dumps(came))
"""


@pytest.fixture(scope="module")
def scene(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the attempts are aimed at, in this installation wherever it has such a thing."""
    installation = workbench.installation
    folder = tmp_path_factory.mktemp("scene")
    with standing_by(folder, next(installation.models_dir.glob("edif--tiny*/*.safetensors"))) as made:
        gateway = next(member for member in workbench.json("pids") if member["role"] == "gateway")
        secrets = installation.home / "secrets"
        yield {
            **made,
            "secret": str(next(path for path in secrets.iterdir() if path.stat().st_size)),
            "database": str(installation.jobs_database),
            "home": str(installation.home / "hub"),
            "result": str(result_of_another(workbench)),
            "ray_token": str(secrets / "ray-token"),
            "link_key": str(secrets / "link-key"),
            "hub_token": str(secrets / "hub-admin-token"),
            "hub_database": str(installation.hub_dir / "jupyterhub.sqlite"),
            "gateway_environment": f"/proc/{gateway['pid']}/environ",
            "models_file": str(installation.models_file),
            "supervisor": str(supervisor_socket(installation)),
            **installation.ports,
        }


def result_of_another(workbench: Workbench) -> Path:
    """The file of a result that is too large to ride on the websocket."""
    done = workbench.run_client(
        "import torch\nfrom nnsight import TransformersModel\n"
        "model = TransformersModel('edif/tiny-gpt2', task='text-generation')\n"
        "with model.trace('Hello', remote=True):\n"
        "    kept = torch.randn(1_500_000).save()\n",
        "victim",
    )
    assert done.returncode == 0, done.stderr
    table = open_jobs(workbench.installation.jobs_database)
    [job] = table.newest("victim", limit=1)
    table.close()
    found = workbench.installation.objects_dir / job.result
    assert found.stat().st_size > 1_000_000
    return found


@pytest.mark.timeout(600)
def test_nothing_gets_out_through_the_gateway(workbench: Workbench, scene: dict[str, Any], tmp_path: Path) -> None:
    names = [attempt.name for attempt in ATTEMPTS]
    assert len(set(names)) == len(names) >= 120
    with Outside(tmp_path) as outside:
        possible = [attempt for attempt in ATTEMPTS if control_is_possible(attempt)]
        controls = {attempt.name: outside.works(steps(attempt), scene) for attempt in possible}
    assert [name for name, worked in controls.items() if not worked] == [], "they do not work outside either"
    told = tmp_path / "scene.json"
    told.write_text(json.dumps([scene, names]))
    done = workbench.run_client(SCRIPT.format(checkout=str(CHECKOUT), scene=str(told)), "mallory", timeout_s=500)
    lines = [line for line in done.stdout.splitlines() if line.startswith("TOLD ")]
    assert lines, done.stdout[-1000:] + done.stderr[-3000:]
    came = json.loads(lines[0].removeprefix("TOLD "))
    assert came.pop("nothing hostile") == str(len(scene)), "what comes out would be seen"
    assert came == dict.fromkeys(names, "")
