"""``edif doctor``: every check with its mend.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import psutil
import typer

from edif_backend.cli.checks import (
    FAIL,
    OK,
    Check,
    before_start,
    check_disk,
    check_gpu,
    check_home,
    check_jail,
    check_memory,
    check_python,
    check_settings,
)
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.located import find_installation, reached_at
from edif_backend.cli.readiness import waiting_for
from edif_backend.cli.supervision import states
from edif_backend.errors import CatalogueInvalid
from edif_backend.models.catalogue import Catalogue
from edif_protocol.installation import Installation


def doctor(as_json: AsJson = False) -> None:
    """Check this machine and this installation; exit status 1 when something must be mended."""
    found = list(_checks(find_installation()))
    if as_json:
        show_json([dataclasses.asdict(check) for check in found])
    else:
        rows = [(check.state, check.name, check.finding) for check in found]
        show_table(("", "Check", "Finding"), rows, "")
        for check in found:
            if check.mend:
                say(f"{check.name}: {check.mend}")
    if any(check.state == FAIL for check in found):
        raise typer.Exit(1)


def _checks(installation: Installation) -> Iterator[Check]:
    running = states(installation) is not None
    if running:  # its own ports are taken, rightly
        yield from (check_python(), check_home(installation), check_disk(installation), check_settings(installation))
        yield check_jail()
    else:
        yield from before_start(installation)
    yield check_memory(psutil.virtual_memory().available)
    yield check_gpu()
    yield _check_catalogue(installation)
    yield _check_serving(installation, running)


def _check_catalogue(installation: Installation) -> Check:
    if not installation.models_file.exists():
        return Check("models", OK, "There is no models.toml yet: `edif up` writes one.")
    try:
        catalogue = Catalogue.load(installation.models_file)
    except CatalogueInvalid as error:
        return Check("models", FAIL, str(error), f"Correct {installation.models_file}.")
    return Check("models", OK, f"{len(catalogue.entries)} models in {installation.models_file}.")


def _check_serving(installation: Installation, running: bool) -> Check:
    if not running:
        return Check("serving", OK, "The workbench is not running.")
    missing = waiting_for(installation)
    if missing:
        return Check("serving", FAIL, f"It runs, but waits for {missing}.", f"See the logs in {installation.logs_dir}.")
    return Check("serving", OK, f"It serves at {reached_at(installation)}.")
