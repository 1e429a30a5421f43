"""``/hub/edif-keys``: a user gets, sees and ends keys for Python outside the browser.

Runs in the hub's process, as one of its own pages: behind its login, with its protection of forms.  The gateway has no
part in it: who may make keys for a user may make any of theirs, so the gateway's page only links here.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from jupyterhub.handlers import BaseHandler
from tornado import web

from edif_hub.keys import NOTE_OF_SERVER, groups_of
from edif_protocol.installation import Installation, PublicAddressSettings
from edif_protocol.mirror_ticket import endpoint
from edif_protocol.wire import TRACE_SCOPE

_DAY_S = 86400
_NOTE_CHARACTERS = 60
#: Offered lives of a key, in days; the operator's longest is offered as well, in place of what is beyond it.
_DAYS = (1, 7, 30, 90)


class KeysPage(BaseHandler):
    """The page, and its two forms: make a key, end a key."""

    def initialize(self, longest_s: int, installation: Installation) -> None:
        """Tornado's way to hand over what ``jupyterhub_config.py`` knows."""
        self._longest_days = max(1, longest_s // _DAY_S)
        self._installation = installation

    @web.authenticated
    async def get(self) -> None:
        """The keys there are, and a form for one more."""
        await self._show()

    @web.authenticated
    async def post(self) -> None:
        """Make or end a key; the hub has checked the form's ``_xsrf`` by now."""
        ended = self.get_body_argument("end", "")
        if ended:
            self._end(ended)
            self.redirect(self.request.path)
            return
        days = self.get_body_argument("days", "")
        if days not in map(str, self._lives()):
            await self._show(problem="Choose how long the key shall live.")
            return
        note = self.get_body_argument("note", "").strip()[:_NOTE_CHARACTERS] or "laptop"
        if note.startswith(NOTE_OF_SERVER):
            await self._show(problem="That name is for the keys of your servers; choose another.")
            return
        key = self.current_user.new_api_token(scopes=[TRACE_SCOPE], note=note, expires_in=int(days) * _DAY_S)
        self.log.info("key made by its user %s, for %s days", self.current_user.name, days)
        ends_at = time.time() + int(days) * _DAY_S
        gateway = PublicAddressSettings().clients_reach(self._installation)
        await self._show(
            made={
                "NDIF_HOST": gateway,
                "HF_ENDPOINT": endpoint(self._installation, groups_of(self.current_user), ends_at, gateway),
                "NDIF_API_KEY": key,
            }
        )

    def _lives(self) -> list[int]:
        return sorted({min(days, self._longest_days) for days in _DAYS})

    def _end(self, id: str) -> None:
        for token in self._keys():
            if token.api_id == id:
                self.db.delete(token)
                self.db.commit()

    def _keys(self) -> list[Any]:
        """The user's keys that can trace and nothing else, without those of pages that they have open."""
        now = datetime.now(UTC).replace(tzinfo=None)  # as the hub's database has it
        mine = [token for token in self.current_user.api_tokens if token.scopes == [TRACE_SCOPE]]
        return [token for token in mine if not token.session_id and not (token.expires_at and token.expires_at < now)]

    async def _show(self, made: dict[str, str] | None = None, problem: str = "") -> None:
        self.set_header("Cache-Control", "no-store")
        keys = [
            {
                "id": token.api_id,
                "note": token.note or "",
                "of_server": (token.note or "").startswith(NOTE_OF_SERVER),
                "expires": _day(token.expires_at),
                "used": _ago(token.last_activity),
            }
            for token in sorted(self._keys(), key=lambda token: token.created, reverse=True)
        ]
        page = await self.render_template("edif_keys.html", keys=keys, lives=self._lives(), made=made, problem=problem)
        self.finish(page)


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "never"


def _ago(moment: datetime | None) -> str:
    """Stored without a time zone, in UTC."""
    if moment is None:
        return "not yet"
    seconds = time.time() - moment.replace(tzinfo=UTC).timestamp()
    for unit_s, unit in ((_DAY_S, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // unit_s)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
