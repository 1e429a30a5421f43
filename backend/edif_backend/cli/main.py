"""The ``edif`` command: ``./edif`` at the top of the checkout hands over to it.

Every expected failure is one sentence on standard error and exit status 1.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import typer
from typer.core import TyperGroup

from edif_backend.cli.console import say
from edif_backend.errors import FabricError

#: Where each command is: a module of this package, and a function or a group of commands in it.
_COMMANDS = {
    "up": "workbench:up",
    "down": "workbench:down",
    "status": "workbench:status",
    "reserve": "limits:reserve",
    "pids": "listings:pids",
    "env": "laptop_keys:env",
    "doctor": "doctor:doctor",
    "people": "people:people",
    "audit": "acts:audit",
    "backup": "backups:backup",
    "restore": "backups:restore",
    "bench": "bench:bench",
    "jobs": "listings:app",
    "key": "laptop_keys:app",
    "models": "models:app",
    "servers": "people:servers",
    "limits": "limits:app",
    "reservations": "limits:reservations",
}

#: Commands of packages that build on this one: the backend does not know them.
COMMANDS = "edif.commands"


class _Commands(TyperGroup):
    """Commands by name; each is imported when it is asked for, since all of them together take seconds."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the help."""
        return [*_COMMANDS, *entry_points(group=COMMANDS).names]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, imported."""
        if cmd_name in _COMMANDS:
            module, _, name = _COMMANDS[cmd_name].partition(":")
            found = getattr(import_module(f"edif_backend.cli.{module}"), name)
        else:
            others = [other.load() for other in entry_points(group=COMMANDS, name=cmd_name)]
            if not others:
                return None
            (found,) = others
        command = typer.main.get_group(found) if isinstance(found, typer.Typer) else _alone(found)
        command.name = cmd_name
        if cmd_name == "bench":
            command.ignore_unknown_options = True  # a benchmark has options of its own
        return command


def _alone(function: Callable[..., Any]) -> Any:
    alone = typer.Typer(add_completion=False)
    alone.command()(function)
    return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Commands,
    name="edif",
    help="The eDIF workbench: a JupyterHub for looking inside language models, and the backend that runs the traces.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _edif() -> None:
    pass


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FabricError as error:
        say(f"edif: {error}")
        sys.exit(1)


if __name__ == "__main__":
    main()
