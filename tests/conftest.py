"""What all tests share: installations of the workbench, started by the real command and stopped whatever happens.

``workbench`` is one installation for the whole run, with both models of the default catalogue; ``new_installation``
makes more, not started yet, for tests that kill or break something.  Runs in pytest's process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import psutil
import pytest
from tests.course_hub import CourseHub, course_hub

from edif_protocol.installation import Installation

CHECKOUT = Path(__file__).resolve().parents[1]
#: Everything tests leave behind: screenshots, logs of failed runs, prepared models.  Ignored by git.
ARTIFACTS = CHECKOUT / ".artifacts"
_PREPARED_MODELS = ARTIFACTS / "models"

_START_S = 660.0  # of which `edif up` waits 600: a machine that does other things needs minutes

# A loaded machine is no reason to fail: no test asserts how long something took.
hypothesis.settings.register_profile("edif", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("edif")

#: A catalogue with the tiny model alone, loaded at start.
TINY_ALONE = '[models."edif/tiny-gpt2"]\ntitle = "Random GPT-2"\nsource = "tiny"\npurpose = "test"\npinned = true\n'


def pytest_configure() -> None:
    """Let what tests start be interrupted: a run in a shell's background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what a running workbench is needed for, or much memory: ``./edif test`` runs the rest beside it."""
    for item in items:
        integration = item.path.is_relative_to(CHECKOUT / "tests" / "integration")
        if integration or "workbench" in getattr(item, "fixturenames", ()):
            item.add_marker("workbench")


def skip(missing: Exception) -> NoReturn:
    """A service that is not installed is no failure here, and one in CI."""
    if os.environ.get("CI"):
        pytest.fail(str(missing))
    pytest.skip(str(missing))


@dataclass
class Workbench:
    """One installation and its command."""

    installation: Installation
    _keys: dict[str, str] = field(default_factory=dict)

    def edif(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run ``edif ARGUMENTS…`` to its end; ``variables`` are added to its environment."""
        return subprocess.run(
            self.command(*arguments),
            env={**self.operator_environment(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
            cwd="/",
        )

    @staticmethod
    def command(*arguments: str) -> list[str]:
        """The command line of ``edif ARGUMENTS…``."""
        return [sys.executable, "-m", "edif_backend.cli.main", *arguments]

    def operator_environment(self) -> dict[str, str]:
        """The variables of the shell of whoever runs this installation; nothing of the tests' own."""
        foreign = ("EDIF_", "NDIF_", "HF_", "PYTEST_", "RAY_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**kept, "EDIF_HOME": str(self.installation.home), "EDIF_PORT": str(self.installation.port)}

    def json(self, *arguments: str) -> Any:
        """What ``edif ARGUMENTS… --json`` prints."""
        done = self.edif(*arguments, "--json")
        assert done.stdout, f"edif {' '.join(arguments)} printed nothing: {done.stderr}"
        return json.loads(done.stdout)

    def up(self) -> None:
        """Start it and wait until it serves; a failure shows what the command said."""
        done = self.edif("up", "--detach", "--timeout", str(_START_S - 60))
        assert done.returncode == 0, f"edif up --detach failed:\n{done.stdout}\n{done.stderr}"

    def key(self, user: str) -> str:
        """A key of ``user``, the same one for the whole run."""
        if user not in self._keys:
            done = self.edif("key", "new", "--user", user, "--expires", "1d")
            assert done.returncode == 0, done.stderr
            self._keys[user] = done.stdout.strip()
        return self._keys[user]

    def environment(self, user: str) -> dict[str, str]:
        """The variables of a client process of ``user``, which has no files of its own anywhere."""
        home = self.installation.home / "clients" / user
        home.mkdir(parents=True, exist_ok=True)
        return {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "NDIF_HOST": self.installation.url("gateway"),
            "NDIF_API_KEY": self.key(user),
            "HF_ENDPOINT": self.installation.mirror_url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def run_client(self, script: str, user: str = "ada", timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run Python code as a client process of ``user``."""
        return subprocess.run(
            [sys.executable, "-c", script],
            env=self.environment(user),
            cwd=self.installation.home / "clients" / user,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def free_port() -> int:
    """The first of six consecutive free ports, below those that the system hands out by itself."""
    for first in range(20000 + os.getpid() % 500 * 20, 32000, 6):
        with ExitStack() as stack:
            try:
                for port in range(first, first + 6):
                    trial = stack.enter_context(socket.socket())
                    trial.bind(("", port))
            except OSError:
                continue
            return first
    raise RuntimeError("no six consecutive free ports")


def _copy_models(source: Path, target: Path) -> None:
    """Prepared models are linked where the file system allows it: converting one takes half a minute, and 500 MB."""
    for folder in source.iterdir() if source.is_dir() else ():
        if folder.is_dir() and not folder.name.startswith(".") and not (target / folder.name).exists():
            draft = target / f".draft-{os.getpid()}-{folder.name}"
            target.mkdir(parents=True, exist_ok=True)
            shutil.copytree(folder, draft, copy_function=_link_or_copy)
            draft.rename(target / folder.name)
        for kept in folder.glob("edif-experience-*"):  # what a load has shown is not found out again
            if not folder.name.startswith(".") and not (target / folder.name / kept.name).exists():
                _link_or_copy(str(kept), str(target / folder.name / kept.name))


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def installation(name: str) -> Iterator[Workbench]:
    """An installation, not started yet; stopped and removed after the block, its logs kept."""
    home = ARTIFACTS / f"run-{os.getpid()}-{name}"
    home.mkdir(parents=True, mode=0o700)
    workbench = Workbench(Installation(home=home, host="127.0.0.1", port=free_port()))
    _copy_models(_PREPARED_MODELS, workbench.installation.models_dir)
    try:
        yield workbench
    finally:
        stopped = workbench.edif("down")
        _copy_models(workbench.installation.models_dir, _PREPARED_MODELS)
        _keep_logs(workbench.installation, name)
        shutil.rmtree(home)
        assert stopped.returncode == 0, stopped.stderr


def _keep_logs(installation: Installation, name: str) -> None:
    target = ARTIFACTS / "logs" / name
    shutil.rmtree(target, ignore_errors=True)
    if installation.logs_dir.is_dir():
        shutil.copytree(installation.logs_dir, target)


@pytest.fixture(scope="session", autouse=True)
def _no_leftovers() -> None:
    """End and remove what a killed test run has left behind."""
    for home in ARTIFACTS.glob("run-*"):
        if not psutil.pid_exists(int(home.name.split("-")[1])):
            Workbench(Installation(home=home)).edif("down")
            shutil.rmtree(home)


@pytest.fixture(scope="session")
def workbench() -> Iterator[Workbench]:
    """One running installation for the whole test run."""
    with installation("shared") as installed:
        installed.up()
        yield installed


@pytest.fixture(scope="session")
def courses() -> Iterator[CourseHub]:
    """One hub with its course service, without a backend, for the whole test run."""
    with installation("courses") as made:
        made.installation.models_file.write_text(TINY_ALONE)
        with course_hub(made) as running:
            yield running


@pytest.fixture(scope="module")
def new_installation() -> Iterator[Callable[[str], Workbench]]:
    """Makes installations of a test module's own, with the tiny model alone; not started yet, stopped at the end."""
    with ExitStack() as stack:

        def make(name: str) -> Workbench:
            made = stack.enter_context(installation(name))
            made.installation.models_file.write_text(TINY_ALONE)
            return made

        yield make
