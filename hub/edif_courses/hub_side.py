"""What the course service asks of the hub: to follow the rosters, to start and stop rooms.

Speaks as the hub's service ``edif-courses``, whose token may handle the servers of rooms and nothing else; groups and
roles are set by the hub itself (:mod:`edif_hub.course_hooks`), which reads the register when it is rung here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import structlog

from edif_courses.errors import HubAway
from edif_protocol.installation import Installation
from edif_protocol.wire import COURSES_APPLY_PATH

log = structlog.get_logger(__name__)


class HubSide:
    """The hub's API, as far as courses need it."""

    def __init__(self, installation: Installation) -> None:
        self._client = httpx.Client(
            base_url=installation.url("hub"),
            headers={"Authorization": f"token {installation.secret('courses-token')}"},
            timeout=30,
        )

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def ring(self) -> bool:
        """Have the hub follow the register now; False if it does not answer, then it does so later by itself."""
        try:
            self._client.post(COURSES_APPLY_PATH).raise_for_status()
        except httpx.HTTPError as error:
            log.warning("hub did not follow the rosters", error=str(error)[:200])
            return False
        return True

    def room_state(self, room: str) -> str:
        """``off``, ``starting``, ``on`` or ``stopping``."""
        answer = self._ask("GET", f"/users/{quote(room)}", (200, 404))
        server = answer.get("servers", {}).get("")
        if server is None:
            return "off"
        return {"spawn": "starting", "stop": "stopping"}.get(
            server.get("pending") or "", "on" if server["ready"] else "off"
        )

    def start_room(self, room: str) -> None:
        """Start the server of a room, or leave it running."""
        self._ask("POST", f"/users/{quote(room)}/server", (201, 202, 400))

    def stop_room(self, room: str) -> None:
        """Stop the server of a room."""
        self._ask("DELETE", f"/users/{quote(room)}/server", (202, 204, 400, 404))

    def _ask(self, method: str, path: str, allowed: tuple[int, ...]) -> dict[str, Any]:
        try:
            answer = self._client.request(method, f"/hub/api{path}")
        except httpx.HTTPError as error:
            raise HubAway("The hub does not answer; try again in a minute.") from error
        if answer.status_code not in allowed:
            raise HubAway(f"The hub refused that ({answer.status_code}): {_reason(answer)}")
        found: Any = answer.json() if answer.content and answer.status_code == 200 else {}
        return found if isinstance(found, dict) else {}


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
