"""What the architecture tests look at: the sources as text, as trees, and as a graph of imports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOUSES = ("backend", "kernels", "hub", "extensions")  # top-level folders that hold import packages
SKIPPED = {"node_modules", "__pycache__", ".ipynb_checkpoints"}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def sources(*folders: str, suffix: str = ".py") -> list[Path]:
    """Our own files with ``suffix`` below ``folders``, in order."""
    found = (path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}"))
    return sorted(path for path in found if not SKIPPED & set(path.parts))


@pytest.fixture(scope="session")
def product() -> list[Path]:
    """Python files of the import packages."""
    return sources(*HOUSES)


@pytest.fixture(scope="session")
def tests() -> list[Path]:
    return sources("tests")


@pytest.fixture(scope="session")
def front_end() -> list[Path]:
    return sources("extensions", suffix=".ts") + sources("extensions", suffix=".mjs")


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The packages importable from the checkout, installed or not, and nothing of an installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDIF_")}
    return {**kept, "PYTHONPATH": os.pathsep.join(str(ROOT / house) for house in HOUSES)}


@pytest.fixture(scope="session")
def run(environment: dict[str, str]) -> Run:
    """Runs a program in the checkout; a tool of the environment by its name."""

    def start(program: str, *arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        beside = Path(sys.executable).parent / program
        found = str(beside) if beside.exists() else shutil.which(program)
        assert found is not None, f"{program} is not installed"
        return subprocess.run(
            [found, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
        )

    return start
