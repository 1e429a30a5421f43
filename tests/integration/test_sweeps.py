"""A sweep on the backend: one job, the same numbers as here, told of while it runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.conftest import Workbench

SCRIPT = """
import contextlib, io, json
import numpy as np, torch
from nnsight import TransformersModel
import edif
from edif import beside
from edif.engine import sweeps
torch.set_num_threads(1)
PROMPT, CLEAN = "When Mary and John went to the store, Mary gave", "When Mary and John went to the store, John gave"
sweeps.TELL_EVERY_S = 0.0

def states(model):
    with model.trace(CLEAN):
        found = [layer.output for layer in model.transformer.h]
    return found

def edit(model, batch):
    hidden = model.transformer.h[batch.layer].output
    for rows, cell in batch:
        hidden[rows, batch.at(cell.position)] = batch.given[cell.layer][:, cell.position]

def measure(model, batch):
    return model.lm_head.output[:, -1].softmax(-1).amax(-1)

def failing(model, batch):
    no_such_name

remote = TransformersModel("edif/tiny-gpt2", task="text-generation")
cells = [(layer, position) for layer in range(4) for position in range(11)]
told, heard = {}, []
take = beside.Telling._take
def listening(self, places, values):
    heard.append(len(places))
    take(self, places, values)
beside.Telling._take = listening
shown = io.StringIO()
with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
    there = edif.sweep(remote, PROMPT, cells, edit, measure, prepare=states)
    told["batches heard of"] = list(heard)
    local = TransformersModel(SNAPSHOT, task="text-generation", dispatch=True)  # there since the backend loaded it
    local._module.eval().requires_grad_(False)
    here = edif.sweep(local, PROMPT, cells, edit, measure, prepare=states)
told["equal"] = there.values.tobytes() == here.values.tobytes()
told["moves"] = float(np.ptp(there.values))
told["shown"] = shown.getvalue()
try:
    edif.sweep(remote, PROMPT, cells, failing, measure, progress=False)
except edif.EdifError as error:
    told["error"] = str(error)
print("TOLD", json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    snapshot = workbench.installation.models_dir / "edif--tiny-gpt2"
    script = (
        tmp_path_factory.mktemp("sweeps") / "sweeping_client.py"
    )  # functions with traces need a file to be read from
    script.write_text(f"SNAPSHOT = {str(snapshot)!r}\n{SCRIPT}")
    done = workbench.run_client(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")
    line = next((line for line in done.stdout.splitlines() if line.startswith("TOLD ")), None)
    assert line, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    found: dict[str, Any] = json.loads(line.removeprefix("TOLD "))
    return found


def test_it_gives_bit_for_bit_what_it_gives_here(told: dict[str, Any]) -> None:
    assert told["equal"]
    assert told["moves"] > 0


def test_its_cells_are_told_of_while_it_runs_and_the_lines_are_not_shown(told: dict[str, Any]) -> None:
    assert sum(told["batches heard of"]) == 44
    assert "edif.sweep" not in told["shown"]
    assert "44/44" in told["shown"]


def test_an_error_in_a_sweep_names_the_users_line(told: dict[str, Any]) -> None:
    assert "NameError" in told["error"]
    assert "no_such_name" in told["error"]
