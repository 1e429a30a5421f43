"""The ``edif`` command: ``./edif`` at the top of the checkout hands over to it.

Every expected failure is one sentence on standard error and exit status 1.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer

from edif_backend.cli import laptop_keys, limits, listings, models, people
from edif_backend.cli.acts import audit
from edif_backend.cli.backups import backup, restore
from edif_backend.cli.bench import bench
from edif_backend.cli.console import say
from edif_backend.cli.doctor import doctor
from edif_backend.cli.listings import pids
from edif_backend.cli.workbench import down, status, up
from edif_backend.errors import FabricError

app = typer.Typer(
    name="edif",
    help="The eDIF workbench: a JupyterHub for looking inside language models, and the backend that runs the traces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (up, down, status, limits.reserve, pids, laptop_keys.env, doctor, people.people, audit, backup, restore):
    app.command()(command)
app.command(context_settings={"ignore_unknown_options": True})(bench)  # a benchmark has options of its own
app.add_typer(listings.app, name="jobs")
app.add_typer(laptop_keys.app, name="key")
app.add_typer(models.app, name="models")
app.add_typer(people.servers, name="servers")
app.add_typer(limits.app, name="limits")
app.add_typer(limits.reservations, name="reservations")
#: Commands of packages that build on this one: the backend does not know them.
COMMANDS = "edif.commands"
for found in entry_points(group=COMMANDS):
    app.add_typer(found.load(), name=found.name)


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FabricError as error:
        say(f"edif: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
