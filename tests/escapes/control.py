"""The suites' common ground: those that attempts are aimed at, and the control, a plain process where they must work.

Used by ``tests/integration/test_escapes*.py``, in pytest's process.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import cloudpickle
from tests.escapes import attempts
from tests.escapes.attempts import Attempt, Scene


@contextmanager
def standing_by(folder: Path, model_file: Path) -> Iterator[Scene]:
    """Those that the attempts are aimed at; all of them are there for the length of a ``with`` block."""
    for name in ("secret", "jobs.sqlite"):
        (folder / name).write_text("a secret of another user")
    shared = Path(f"/dev/shm/edif-escapes-{os.getpid()}")
    shared.write_text("secret")
    with ExitStack() as stack:
        stack.callback(shared.unlink)
        victim = subprocess.Popen(["/bin/sleep", "600"], env={"VICTIMS_KEY": "1"})
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        abstract = f"\0edif-escapes-{os.getpid()}"
        listening = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2)]
        for sock, address in zip(listening, (str(folder / "socket"), abstract), strict=True):
            sock.bind(address)
            sock.listen(64)
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        yield {
            "secret": str(folder / "secret"),
            "database": str(folder / "jobs.sqlite"),
            "home": str(folder),
            "model_file": str(model_file),
            "shared_memory": str(shared),
            "victim": victim.pid,
            "unix": str(folder / "socket"),
            "abstract": abstract,
            "port": server.getsockname()[1],
        }


class Outside:
    """The control's process; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        environment = {**os.environ, "THE_OPERATORS_SECRET": "1", "PYTHONPATH": ""}
        script = Path(attempts.__file__).with_name("outside.py")
        with open(os.devnull) as inherited:
            self._process = subprocess.Popen(
                [sys.executable, str(script)],
                pass_fds=[inherited.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def works(self, codes: list[Callable[[Scene], Any]], scene: Scene) -> bool:
        """Whether the last of these, run one after the other, gives something true."""
        self._count += 1
        path = self._folder / f"{self._count}.attempt"
        path.write_bytes(cloudpickle.dumps((codes, scene)))
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n"
        return path.with_suffix(".worked").exists()


def steps(attempt: Attempt) -> list[Callable[[Scene], Any]]:
    """Its code, and what is looked at afterwards."""
    return [attempt.code, *([attempt.then] if attempt.then else [])]


def control_is_possible(attempt: Attempt) -> bool:
    """Whether this account could do it outside."""
    return os.getuid() == 0 or not attempt.needs_root
