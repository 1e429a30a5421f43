"""``edif audit``: who did what; and the lines that commands themselves add.

Used by every command that changes something; runs in the operator's shell.
"""

from __future__ import annotations

import getpass
from typing import Annotated

import typer

from edif_backend.cli.console import AsJson, show_json, show_table
from edif_backend.cli.located import find_installation
from edif_protocol.audit_log import AuditLog


def typed_by() -> str:
    """The account of this machine that runs the command, as the log names it."""
    try:
        account = getpass.getuser()
    except (OSError, KeyError):  # an account without a name
        account = "unknown"
    return f"account {account}"


def note_act(act: str, on: str = "", **more: str) -> None:
    """Write down what a command has done, under the name of the account that it runs as."""
    AuditLog(find_installation().audit_dir).note(typed_by(), act, on, via="command", **more)


def audit(
    by: Annotated[str, typer.Option(help="Of this user alone.")] = "",
    act: Annotated[str, typer.Option(help="Acts that begin so, such as server. or key.make.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    lines: Annotated[bool, typer.Option("--lines", help="All of it as JSON lines, the oldest first.")] = False,
    as_json: AsJson = False,
) -> None:
    """Who did what: in the hub, on the operator's page, with this command."""
    log = AuditLog(find_installation().audit_dir)
    if lines:
        for line in log.lines():
            print(line)
        return
    found = log.newest(limit, by, act)
    if as_json:
        show_json(found)
        return
    rows = [(one["at"][:19].replace("T", " "), one["by"], one["act"], one["on"], one["via"]) for one in found]
    show_table(("When (UTC)", "Who", "What", "To", "By way of"), rows, "Nothing has been written down yet.")
