"""Every construct of nnsight, remotely as locally; each case of ``tests/conformance`` reports by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conformance.table import FOLDER, registered
from tests.conftest import Workbench

#: All cases run when the first one asks: 30 s on two idle cores, 100 s on busy ones, after the workbench has started.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", params=["nnsight", "edif"])
def report(
    workbench: Workbench, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, str]:
    """What one process of this client found: how each case differs, empty where it does not."""
    folder: Path = tmp_path_factory.mktemp("conformance")
    snapshot = workbench.installation.models_dir / "edif--tiny-gpt2"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "compare.py"), request.param, str(folder / "report.json"), str(snapshot)],
        env=workbench.environment("ada"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"the client ended early:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    print(done.stdout.splitlines()[-1])
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("name", [name for name, *_ in registered()])
def test_remote_is_as_local(report: dict[str, str], name: str) -> None:
    assert not report[name], report[name]
