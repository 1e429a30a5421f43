"""``python -m edif_backend.models prepare``: make models ready ahead of their use, with progress for people.

Run by ``edif up`` (``--pinned``) and by operators; exit status 1 and one sentence when a model cannot be made ready.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer
from rich.console import Console

from edif_backend.errors import FabricError
from edif_backend.models.catalogue import Catalogue, ModelEntry, write_default
from edif_backend.models.snapshots import Say, prepare
from edif_protocol.installation import Installation

app = typer.Typer(add_completion=False, help="Models of this installation.")


@app.callback()
def _models() -> None:
    """Keep ``prepare`` a subcommand, although it is the only one."""


@app.command("prepare")
def prepare_command(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="models; all if none is named")] = None,
    pinned: Annotated[bool, typer.Option("--pinned", help="those marked pinned in models.toml")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="compute all checksums again")] = False,
) -> None:
    """Make the files of models present and check them."""
    installation = Installation()
    os.environ["TQDM_DISABLE"] = "1"  # libraries draw bars across the lines said here
    try:
        write_default(installation.models_file)
        catalogue = Catalogue.load(installation.models_file)
        for entry in _chosen(catalogue, ids or [], pinned):
            _prepare_one(entry, installation, verify)
    except FabricError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None


def _chosen(catalogue: Catalogue, ids: list[str], pinned: bool) -> list[ModelEntry]:
    if not ids and not pinned:
        return list(catalogue.entries)
    named = [catalogue.entry(name) for name in ids]
    return named + [entry for entry in catalogue.entries if pinned and entry.pinned and entry not in named]


def _prepare_one(entry: ModelEntry, installation: Installation, verify: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        say: Say = _say_plainly
        prepare(entry, installation.models_dir, say, verify=verify)
    else:
        with console.status(f"{entry.id}: checking") as status:
            prepare(entry, installation.models_dir, status.update, verify=verify)
        console.print(f"[green]✓[/green] {entry.id}")


def _say_plainly(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    app()
