"""The hub's REST API as far as the ``edif`` command needs it: users, their servers and keys.

Called by :mod:`edif_backend.cli.laptop_keys` and :mod:`edif_backend.cli.people`, in the operator's shell.  Speaks as
the hub's service ``edif-cli``, whose token both sides read from the installation's secrets.
"""

from __future__ import annotations

from typing import Any, Self
from urllib.parse import quote

import httpx

from edif_backend.errors import SetupFailed
from edif_protocol.installation import Installation
from edif_protocol.wire import TRACE_SCOPE


class HubClient:
    """One command's conversation with the hub; use as a context manager."""

    def __init__(self, installation: Installation) -> None:
        self._client = httpx.Client(
            base_url=f"{installation.url('hub')}/hub/api",
            headers={"Authorization": f"token {installation.secret('hub-admin-token')}"},
            timeout=30,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.close()

    def make_key(self, user: str, lifetime_s: int, note: str) -> dict[str, Any]:
        """A new key of ``user``, who is made if need be: ``{"token", "id", "expires_at", …}``."""
        self._ask("POST", f"/users/{quote(user, safe='')}", allowed=(201, 409))
        body = {"note": note, "expires_in": lifetime_s, "scopes": [TRACE_SCOPE]}
        answer: dict[str, Any] = self._ask("POST", f"/users/{quote(user, safe='')}/tokens", body)
        return answer

    def people(self) -> list[dict[str, Any]]:
        """All users with their servers, as the hub tells them."""
        found: list[dict[str, Any]] = self._ask("GET", "/users?include_stopped_servers=false")
        return found

    def stop_server(self, user: str) -> bool:
        """Stop the server of ``user``; False when none runs.

        Raises:
            SetupFailed: there is no such user.
        """
        path = f"/users/{quote(user, safe='')}"
        if not self._ask("GET", path).get("server"):
            return False
        self._ask("DELETE", f"{path}/server", allowed=(202, 204))
        return True

    def start_server(self, user: str, profile: str) -> None:
        """Start the server of ``user``, in the size ``profile`` if one is named."""
        body = {"profile": profile} if profile else None
        self._ask("POST", f"/users/{quote(user, safe='')}/server", body, allowed=(201, 202))

    def users(self) -> list[str]:
        """The names of all users."""
        return [user["name"] for user in self._ask("GET", "/users")]

    def groups(self, user: str) -> list[str]:
        """The groups that ``user`` is in."""
        found: list[str] = self._ask("GET", f"/users/{quote(user, safe='')}")["groups"]
        return found

    def keys(self, user: str) -> list[dict[str, Any]]:
        """The keys of ``user`` that may trace; other tokens of theirs are none of our business."""
        answer = self._ask("GET", f"/users/{quote(user, safe='')}/tokens", allowed=(200, 404))
        tokens = answer.get("api_tokens", [])
        return [{**token, "user": user} for token in tokens if TRACE_SCOPE in token["scopes"]]

    def revoke(self, user: str, id: str) -> None:
        """End one key at once."""
        self._ask("DELETE", f"/users/{quote(user, safe='')}/tokens/{quote(id, safe='')}")

    def _ask(self, method: str, path: str, body: Any = None, allowed: tuple[int, ...] = (200, 201, 204)) -> Any:
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.TransportError as error:
            raise SetupFailed("The hub does not answer: is the workbench running? `edif up` starts it.") from error
        if answer.status_code not in allowed:
            raise SetupFailed(f"The hub refused ({answer.status_code}): {_reason(answer)}")
        return answer.json() if answer.content else {}


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase
