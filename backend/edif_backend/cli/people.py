"""``edif people`` and ``edif servers``: who is known to the hub, and whose server runs.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.hub_client import HubClient
from edif_backend.cli.located import find_installation
from edif_backend.errors import SetupFailed

servers = typer.Typer(help="The servers that run; `start` and `stop` one.")

User = Annotated[str, typer.Argument(metavar="USER", help="Name from `edif people`.")]


def people(as_json: AsJson = False) -> None:
    """Everybody the hub knows: groups, whether they are operators, when they were last there."""
    with HubClient(find_installation()) as hub:
        found = hub.people()
    kept = ("name", "admin", "groups", "server", "created", "last_activity")
    if as_json:
        show_json([{name: person.get(name) for name in kept} for person in found])
        return
    rows = [
        (
            person["name"],
            ", ".join(person.get("groups") or ()),
            "operator" if person["admin"] else "",
            "runs" if person.get("server") else "",
            _minute(person.get("last_activity")),
        )
        for person in found
    ]
    show_table(("Name", "Groups", "", "Server", "Last there"), rows, "Nobody has logged in yet.")


@servers.callback(invoke_without_command=True)
def show_servers(context: typer.Context, as_json: AsJson = False) -> None:
    """The servers that run or are starting."""
    if context.invoked_subcommand:
        return
    with HubClient(find_installation()) as hub:
        found = [_record(person["name"], server) for person in hub.people() for server in person["servers"].values()]
    if as_json:
        show_json(found)
        return
    rows = [(one["user"], one["state"], one["size"], _minute(one["started"]), _minute(one["used"])) for one in found]
    show_table(("User", "State", "Size", "Started", "Last used"), rows, "No server runs.")


@servers.command("stop")
def stop_server(user: User) -> None:
    """Stop a user's server; their files stay, and so do the results of their jobs."""
    with HubClient(find_installation()) as hub:
        if not hub.stop_server(user):
            raise SetupFailed(f"No server of {user} runs: `edif servers` shows those that do.")
    note_act("server.stop", user)
    say(f"The server of {user} is being stopped.")


@servers.command("start")
def start_server(user: User, size: Annotated[str, typer.Option(help="Which profile; the last one used.")] = "") -> None:
    """Start a user's server for them."""
    with HubClient(find_installation()) as hub:
        hub.start_server(user, size)
    note_act("server.start", user)
    say(f"The server of {user} is starting.")


def _record(user: str, server: dict[str, Any]) -> dict[str, Any]:
    return {
        "user": user,
        "state": server["pending"] or ("ready" if server["ready"] else "stopped"),
        "size": (server.get("user_options") or {}).get("profile", ""),
        "started": server["started"],
        "used": server["last_activity"],
    }


def _minute(moment: str | None) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else ""
