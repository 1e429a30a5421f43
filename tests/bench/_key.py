"""A key for the benchmarks that send jobs, made as an operator makes one."""

from __future__ import annotations

import subprocess
import sys


def new_key(user: str | None = None) -> str:
    """A key (of ``user``, if one is named) for a day; ends the benchmark with a sentence when none can be had."""
    whose = [] if user is None else ["--user", user]
    made = subprocess.run(
        [sys.executable, "-m", "edif_backend.cli.main", "key", "new", *whose, "--expires", "1d"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        sys.exit(made.stderr.strip() or "No key could be made; is the workbench up? ./edif up")
    return made.stdout.strip()
