"""This installation as an LTI tool: its key, its addresses, and its launches over the register.

Called by the course service and the ``edif course`` command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx

from edif_courses.desk import Desk
from edif_courses.errors import HubAway
from edif_courses.lti_launch import LtiLaunch
from edif_courses.names_roles import new_key
from edif_protocol.installation import Installation
from edif_protocol.wire import COURSES_PATH

_KEYS_BYTES = 1 << 20


def addresses(public_url: str) -> dict[str, str]:
    """What a platform's administrator types in when this tool is added there."""
    root = f"{public_url.rstrip('/')}{COURSES_PATH}lti/"
    return {"Tool URL": f"{root}launch", "Initiate login URL": f"{root}login", "Public keyset URL": f"{root}keys"}


def lti_key(installation: Installation) -> Callable[[], str]:
    """Gives this tool's private key, made on first use; its file has mode 600."""

    def read() -> str:
        path = installation.home / "secrets" / "lti-key.pem"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = path.with_suffix(f".{os.getpid()}")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(new_key())
            with suppress(FileExistsError):
                os.link(draft, path)  # of two at once the first counts
            draft.unlink()
        return path.read_text(encoding="ascii")

    return read


def open_launches(desk: Desk, public_url: str, client: httpx.Client) -> LtiLaunch:
    """Launches from platforms; ``client`` fetches their keys."""

    def fetch(url: str) -> Any:
        try:
            answer = client.get(url)
            answer.raise_for_status()
            if len(answer.content) > _KEYS_BYTES:
                raise HubAway("The learning platform publishes too many keys.")
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise HubAway("The learning platform's keys cannot be read: try again in a minute.") from error

    launch_url = addresses(public_url)["Tool URL"]
    return LtiLaunch(desk.register, desk.enrolment, desk.trail, launch_url, fetch)
