"""The systemd units in `deploy/` name commands that there are, and systemd itself, where it is, finds nothing wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from typer import Context
from typer.main import get_command

from edif_backend.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "deploy" / "systemd").iterdir())


def test_the_commands_in_units_and_operators_docs_exist() -> None:
    commands = set(get_command(app).list_commands(Context(get_command(app))))
    text = "".join(unit.read_text() for unit in UNITS) + (ROOT / "docs" / "operator.md").read_text()
    named = set(re.findall(r"(?:/srv/edif|`\.)/edif ([a-z]+)", text))
    assert {"up", "down", "backup"} <= named
    assert named - commands - {"test", "setup", "pin"} == set()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_units(unit: Path, tmp_path: Path) -> None:
    for path in UNITS:  # with paths and accounts that are there
        text = path.read_text().replace("/srv/edif/edif", "/bin/true").replace("User=edif", "User=root")
        (tmp_path / path.name).write_text(text.replace("file:///srv/edif", ROOT.as_uri().replace("%", "%%")))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    mine = [line for line in found.stderr.splitlines() if "edif" in line]
    assert mine == []
