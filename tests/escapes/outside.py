"""The control: runs an attempt in a plain process, with nothing around it.

``python -m tests.escapes.outside FOLDER`` reads names of files from its input; each holds an attempt's code, a fork
runs it and leaves what came out beside it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401 - forks find it loaded, as an executor does

_LIMIT_S = 30


def _run(path: Path) -> None:
    codes, scene = pickle.loads(path.read_bytes())
    came = None
    try:
        for code in codes:
            came = code(scene)
    except BaseException as error:  # noqa: BLE001 - whatever it raises is the outcome
        came = None
        path.with_suffix(".error").write_text(repr(error))
    path.with_suffix(".worked" if came else ".failed").touch()


def main() -> None:
    """Until the input ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setpgid(0, 0)
            with contextlib.suppress(BaseException):
                _run(Path(line.strip()))
            os._exit(0)
        until = time.monotonic() + _LIMIT_S
        while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < until:
            time.sleep(0.01)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        print("done", flush=True)


if __name__ == "__main__":
    main()
