"""``edif bench NAME``: runs one benchmark of the checkout.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.  A benchmark is a script
``tests/bench/NAME.py`` that prints a table, or with ``--json`` one object of figures as its last line; it finds the
installation in its environment.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from edif_backend.cli.console import AsJson, say
from edif_backend.cli.located import find_installation
from edif_backend.errors import SetupFailed


def bench(
    name: Annotated[str | None, typer.Argument(help="Which benchmark; without it, their names are listed.")] = None,
    options: Annotated[list[str] | None, typer.Argument(help="Its own options; --help lists them.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a benchmark against this workbench."""
    folder = Path(__file__).resolve().parents[3] / "tests" / "bench"
    known = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.name.startswith("_")}
    if not known:
        raise SetupFailed("Benchmarks come with a checkout of the repository; none were found here.")
    if name is None:
        print("\n".join(known))
        return
    if name not in known:
        raise SetupFailed(f"There is no benchmark {name!r}: there are {', '.join(known)}.")
    command = [sys.executable, str(known[name]), *(options or []), *(["--json"] if as_json else [])]
    installation = find_installation()
    client = {"NDIF_HOST": installation.url("gateway"), "HF_ENDPOINT": installation.mirror_url}
    environment = {**installation.child_environment("bench"), **client}
    status = subprocess.run(command, env=environment, check=False).returncode
    if status:
        say(f"The benchmark {name} failed (status {status}).")
        raise typer.Exit(1)
