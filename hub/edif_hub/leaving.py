"""Ending what somebody has here: their sessions in browsers, their keys, their servers.

Called by :mod:`edif_hub.university` when the provider does not vouch for a person any more; runs in the hub's process.
Sessions and keys end at once and before anything is awaited; servers take a few seconds to stop and do so on their own.
"""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.orm import OAuthCode
from jupyterhub.user import User
from jupyterhub.utils import new_token
from sqlalchemy.exc import SQLAlchemyError

_PAUSE_S = 0.5


def end_sessions(user: User) -> None:
    """End every login of ``user`` in a browser, here and in the pages and servers that took it over."""
    user.orm_user.cookie_id = new_token()  # the hub's cookie holds the old one
    for token in [token for token in user.api_tokens if token.session_id]:
        user.db.delete(token)
    for code in user.db.query(OAuthCode).filter_by(user_id=user.id):
        user.db.delete(code)
    user.db.commit()


def end_keys(user: User) -> int:
    """End every key and token of ``user``, those of running servers included; returns how many there were."""
    tokens = list(user.api_tokens)
    for token in tokens:
        user.db.delete(token)
    user.db.commit()
    return len(tokens)


def stop_servers(user: User, log: Any) -> list[asyncio.Task[None]]:
    """Stop every server of ``user``; the tasks end when they have stopped."""
    running = [name for name, spawner in user.spawners.items() if spawner.active]
    return [asyncio.create_task(_stop(user, name, log)) for name in running]


async def _stop(user: User, name: str, log: Any) -> None:
    spawner = user.spawners[name]
    while spawner.pending:  # noqa: ASYNC110 (it is starting, or being stopped already; JupyterHub has no event for that)
        await asyncio.sleep(_PAUSE_S)
    if not spawner.active:
        return
    try:
        await user.settings["proxy"].delete_user(user, name)
        await user.stop(name)
    except (OSError, RuntimeError, SQLAlchemyError) as error:
        # Nobody waits for this task; the server has lost its keys in any case, and the culler takes it later.
        log.error("the server %s of %s could not be stopped: %r", name or "(default)", user.name, error)
    else:
        log.info("the server %s of %s was stopped", name or "(default)", user.name)
