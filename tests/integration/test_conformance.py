"""Every construct of nnsight, remotely as locally; each case of ``tests/conformance`` reports by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conformance.table import FOLDER, registered
from tests.conftest import Workbench


@pytest.fixture(scope="module")
def report(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one client process found: a line of difference for each case, empty where there is none."""
    folder: Path = tmp_path_factory.mktemp("conformance")
    snapshot = workbench.installation.models_dir / "edif--tiny-gpt2"
    done = subprocess.run(
        [sys.executable, str(FOLDER / "compare.py"), str(folder / "report.json"), str(snapshot)],
        env=workbench.environment("ada"),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, f"the client ended early:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads((folder / "report.json").read_text())


@pytest.mark.parametrize("name", [name for name, *_ in registered()])
def test_remote_is_as_local(report: dict[str, str], name: str) -> None:
    assert not report[name], report[name]
