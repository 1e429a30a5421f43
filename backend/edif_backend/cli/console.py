"""What a person reads: progress on standard error, tables and JSON on standard output.

Called by every command of :mod:`edif_backend.cli`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

#: ``--json`` of every listing.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_progress = Console(stderr=True, highlight=False, soft_wrap=True)
_output = Console(highlight=False)


def say(text: str) -> None:
    """One line of progress or advice."""
    _progress.print(escape(text))


def show_json(value: Any) -> None:
    """``value`` as JSON on standard output."""
    print(json.dumps(value, indent=2, default=str))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], empty: str) -> None:
    """Rows under ``columns``, or the sentence ``empty``; into a pipe, columns keep their full width."""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(escape("" if cell is None else str(cell)) for cell in row))
    if not table.row_count:
        say(empty)
        return
    console = _output if _output.is_terminal else Console(highlight=False, width=1000)
    console.print(table)


def duration(seconds: float) -> str:
    """``75`` → ``1 min``; the largest unit that says enough."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def mebibytes(size_bytes: float) -> str:
    """A size in MiB, as processes and files are listed."""
    return f"{size_bytes / 1024**2:.0f} MiB"
