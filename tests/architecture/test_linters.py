"""Ruff, mypy, the front end's own checks: what pre-commit runs, run for everybody."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.architecture.conftest import Run

WRONG = {
    "a line too long": ("E501", f'"""A module that says what it is."""\n\nX = "{"x" * 130}"\n'),
    "a blind except": ("BLE001", "try:\n    pass\nexcept Exception:\n    pass\n"),
    "a relative import": ("TID252", "from .x import y\n"),
    "a naive time": ("DTZ005", "import datetime\n\nNOW = datetime.datetime.now()\n"),
    "a TODO": ("FIX002", "# TODO: later\n"),
    "no docstring": ("D100", "X = 1\n"),
}


def test_ruff_finds_nothing(run: Run) -> None:
    answer = run("ruff", "check", "--no-cache", "--output-format=concise", ".")
    assert answer.returncode == 0, answer.stdout


def test_format_is_ruffs(run: Run) -> None:
    answer = run("ruff", "format", "--no-cache", "--check", ".")
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize("case", WRONG)
def test_ruff_notices(run: Run, root: Path, tmp_path: Path, case: str) -> None:
    rule, text = WRONG[case]
    wrong = tmp_path / "wrong.py"
    wrong.write_text(text, encoding="utf-8")
    answer = run("ruff", "check", "--no-cache", "--config", str(root / "pyproject.toml"), str(wrong))
    assert answer.returncode == 1
    assert rule in answer.stdout


@pytest.mark.timeout(300)
def test_types_hold(run: Run) -> None:
    answer = run("mypy")
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.timeout(300)
def test_front_end_holds(run: Run, root: Path) -> None:
    """TypeScript compiles strictly, biome finds nothing, vitest passes."""
    if shutil.which("npm") is None or not (root / "extensions" / "node_modules").is_dir():
        if os.environ.get("CI"):
            pytest.fail("the front end's tools are missing: run extensions/build.sh")
        pytest.skip("the front end's tools are missing: run extensions/build.sh")
    answer = run("npm", "test", "--silent", folder=root / "extensions")
    assert answer.returncode == 0, answer.stdout + answer.stderr
