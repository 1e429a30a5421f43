"""``/hub/edif-people``: operators see everybody, stop servers and end keys.

Runs in the hub's process, as one of its own pages, for what the hub knows; jobs, models and limits are on the
gateway's page, which has no right to anything here.  The ``edif`` command can do all of it too.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jupyterhub import orm
from jupyterhub.handlers import BaseHandler
from jupyterhub.scopes import needs_scope
from tornado import web

from edif_hub.page_policy import shown_name
from edif_protocol.audit_log import AuditLog
from edif_protocol.wire import OPERATOR_PATH, TRACE_SCOPE


class PeoplePage(BaseHandler):
    """The page, and its forms: stop a server, end a key, end all keys of a person."""

    def initialize(self, audit: AuditLog) -> None:
        """Tornado's way to hand over what ``jupyterhub_config.py`` knows."""
        self._audit = audit

    @web.authenticated
    @needs_scope("admin-ui")
    async def get(self) -> None:
        """Everybody, or one person with their keys."""
        await self._show()

    @web.authenticated
    @needs_scope("admin-ui")
    async def post(self) -> None:
        """Do one thing; the hub has checked the form's ``_xsrf`` by now."""
        name = self.get_body_argument("user", "")
        user = self.find_user(name)
        if user is None:
            await self._show(said=f"There is nobody named {name}.")
            return
        match self.get_body_argument("act", ""):
            case "server.stop":
                said = await self._stop(user)
            case "key.end":
                said = self._end_keys(user, self.get_body_argument("key", ""))
            case _:
                said = "The page does not know this act; reload it."
        await self._show(said=said)

    async def _stop(self, user: Any) -> str:
        if not user.spawner.ready:
            return f"No server of {user.name} runs."
        await self.stop_single_user(user)
        self._note("server.stop", user.name)
        return f"The server of {user.name} is stopped."

    def _end_keys(self, user: Any, id: str) -> str:
        ended = [token for token in _keys(user) if id in ("all", token.api_id)]
        for token in ended:
            self._note("key.end", user.name, key=token.api_id)
            self.db.delete(token)
        self.db.commit()
        return f"{len(ended)} keys of {user.name} are ended." if ended else f"{user.name} has no such key."

    def _note(self, act: str, on: str, **more: str) -> None:
        self._audit.note(self.current_user.name, act, on, via="hub", **more)

    async def _show(self, said: str = "") -> None:
        self.set_header("Cache-Control", "no-store")
        chosen = self.find_user(self.get_argument("user", ""))
        page = await self.render_template(
            "edif_people.html",
            people=[_person(self._user_from_orm(user)) for user in self.db.query(orm.User).order_by(orm.User.name)],
            chosen=chosen.name if chosen else "",
            keys=[_key(token) for token in _keys(chosen)] if chosen else [],
            said=said,
            operator_path=OPERATOR_PATH,
        )
        self.finish(page)


def _person(user: Any) -> dict[str, Any]:
    spawner = user.spawners.get("")
    return {
        "name": user.name,
        "shown": shown_name(user),
        "admin": user.admin,
        "groups": ", ".join(sorted(group.name for group in user.groups)),
        "server": (spawner.pending or ("runs" if spawner.ready else "")) if spawner else "",
        "size": (spawner.user_options or {}).get("profile", "") if spawner and spawner.ready else "",
        "key_count": len(_keys(user)),
        "there": f"{user.last_activity:%Y-%m-%d %H:%M}" if user.last_activity else "",
    }


def _keys(user: Any) -> list[Any]:
    """What traces in the user's name and has not ended."""
    now = datetime.now(UTC).replace(tzinfo=None)  # as the hub's database has it
    tokens = [token for token in user.api_tokens if token.scopes == [TRACE_SCOPE] and not token.session_id]
    return [token for token in tokens if not (token.expires_at and token.expires_at < now)]


def _key(token: Any) -> dict[str, str]:
    return {
        "id": token.api_id,
        "note": token.note or "",
        "ends": f"{token.expires_at:%Y-%m-%d %H:%M}" if token.expires_at else "never",
        "used": f"{token.last_activity:%Y-%m-%d %H:%M}" if token.last_activity else "not yet",
    }
