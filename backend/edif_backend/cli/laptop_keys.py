"""``edif key`` and ``edif env``: keys for Python outside the browser.

Registered by :mod:`edif_backend.cli.main`; runs in the operator's shell.  A key can trace and nothing else, ends by
itself and can be revoked; it is shown once and stored here nowhere.
"""

from __future__ import annotations

import getpass
import re
import shlex
import socket
import time
from typing import Annotated, Any

import typer

from edif_backend.cli.acts import note_act
from edif_backend.cli.console import AsJson, say, show_json, show_table
from edif_backend.cli.hub_client import HubClient
from edif_backend.cli.located import find_installation
from edif_backend.errors import SetupFailed
from edif_protocol.mirror_ticket import endpoint

app = typer.Typer(help="Keys for Python outside the browser.", no_args_is_help=True)

_UNITS_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LONGEST_S = 90 * 86400

User = Annotated[str | None, typer.Option("--user", help="Whose key; this account's name by default.")]
Expires = Annotated[str, typer.Option("--expires", help="Life of the key: 30m, 12h, 7d, 4w; at most 90d.")]


def lifetime_s(text: str) -> int:
    """``"7d"`` → 604800.

    Raises:
        SetupFailed: not a number with m, h, d or w, or too long.
    """
    seconds = span_s("--expires", text)
    if seconds > _LONGEST_S:
        raise SetupFailed(f"--expires {text} is too long: a key lives at most 90d.")
    return seconds


def span_s(option: str, text: str) -> int:
    """``"90m"`` → 5400.

    Raises:
        SetupFailed: not a number with m, h, d or w; names ``option``.
    """
    found = re.fullmatch(r"([1-9][0-9]{0,5})([mhdw])", text.strip().lower())
    if found is None:
        raise SetupFailed(f"{option} {text!r} is not understood: write 30m, 12h, 7d or 4w.")
    return int(found[1]) * _UNITS_S[found[2]]


def user_name(given: str | None) -> str:
    """The user meant, in the hub's lower case: ``given``, or else this account's own name.

    Raises:
        SetupFailed: the account has no name that can be used.
    """
    if given is not None:
        return given.lower()
    try:
        return getpass.getuser().lower()
    except (OSError, KeyError):
        raise SetupFailed("This account has no name: say whose key it shall be with --user NAME.") from None


@app.command("new")
def new(user: User = None, expires: Expires = "7d", as_json: AsJson = False) -> None:
    """Make a key and print it, once."""
    installation = find_installation()
    seconds = lifetime_s(expires)
    name = user_name(user)
    with HubClient(installation) as hub:
        made = hub.make_key(name, seconds, f"edif key new on {socket.gethostname()}")
    note_act("key.make", name, key=made["id"])
    if as_json:
        show_json({"key": made["token"], "id": made["id"], "user": name, "expires_at": made["expires_at"]})
        return
    print(made["token"])
    say(f"Key of {name}, valid until {made['expires_at']}; it is not shown again. End it: edif key revoke {made['id']}")


@app.command("list")
def show(user: User = None, as_json: AsJson = False) -> None:
    """The keys of one user, or of all; the keys themselves cannot be shown."""
    installation = find_installation()
    with HubClient(installation) as hub:
        found = [key for name in ([user] if user else hub.users()) for key in hub.keys(name)]
    if as_json:
        kept = ("id", "user", "note", "created", "expires_at", "last_activity")
        show_json([{name: key[name] for name in kept} for key in found])
        return
    rows = [(key["id"], key["user"], key["note"], key["expires_at"], key["last_activity"]) for key in found]
    show_table(("Id", "User", "Note", "Expires", "Last used"), rows, "There is no key; `edif key new` makes one.")


@app.command("revoke")
def revoke(id: Annotated[str, typer.Argument(help="Id from `edif key list`.")]) -> None:
    """End a key; the gateway stops taking it within half a minute."""
    installation = find_installation()
    with HubClient(installation) as hub:
        owners = [key["user"] for name in hub.users() for key in hub.keys(name) if key["id"] == id]
        if not owners:
            raise SetupFailed(f"There is no key {id}: `edif key list` shows those there are.")
        hub.revoke(owners[0], id)
    note_act("key.end", owners[0], key=id)
    say(f"The key {id} of {owners[0]} is ended.")


def env(user: User = None, expires: Expires = "7d", as_json: AsJson = False) -> None:
    """Print the line that lets any Python on this machine trace here: eval "$(./edif env)"."""
    installation = find_installation()
    name, seconds = user_name(user), lifetime_s(expires)
    with HubClient(installation) as hub:
        made = hub.make_key(name, seconds, f"edif env on {socket.gethostname()}")
        groups = hub.groups(name)
    values: dict[str, Any] = {
        "NDIF_HOST": installation.url("gateway"),
        "NDIF_API_KEY": made["token"],
        "HF_ENDPOINT": endpoint(installation, groups, time.time() + seconds),
    }
    if as_json:
        show_json(values)
        return
    print("export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items()))
