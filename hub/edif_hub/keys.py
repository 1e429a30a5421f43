"""The key of a user server's kernels: minted when the server starts, deleted when it stops.

Called by the spawner's hooks (:mod:`edif_hub.server`); runs in the hub's process.  The key is a JupyterHub API token
with the one scope ``custom:edif:trace``: it can trace and nothing else, unlike the server's own
``JUPYTERHUB_API_TOKEN``, which opens the user's notebook server and never goes to the gateway.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.spawner import Spawner
from sqlalchemy.orm import object_session

from edif_protocol.wire import TRACE_SCOPE

#: How the notes of servers' keys begin.
NOTE_OF_SERVER = "kernels of "


def note_of(server_name: str) -> str:
    """The note by which the hub's token page, and :func:`revoke_keys`, know the key of the server ``server_name``."""
    return NOTE_OF_SERVER + (f"server {server_name!r}" if server_name else "the default server")


def mint_key(spawner: Spawner, lifetime_s: int) -> str:
    """A new key for the kernels of ``spawner``'s server, in place of any that an earlier start left behind."""
    revoke_keys(spawner)
    key: str = spawner.user.new_api_token(scopes=[TRACE_SCOPE], note=note_of(spawner.name), expires_in=lifetime_s)
    return key


def groups_of(user: Any) -> list[str]:
    """The names of the groups that a user of the hub is in."""
    return [group.name for group in user.groups]


def revoke_keys(spawner: Spawner) -> int:
    """Delete every key of ``spawner``'s server; returns how many there were."""
    note = note_of(spawner.name)
    ended = [token for token in spawner.user.api_tokens if token.note == note]
    for token in ended:
        session = object_session(token)
        assert session is not None  # the hub's own: these tokens were read through it
        session.delete(token)
        session.commit()
    return len(ended)
