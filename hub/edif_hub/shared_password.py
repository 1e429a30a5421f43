"""The login of an embedded installation: JupyterHub's shared password, with a limit to guessing.

Set up by :mod:`edif_hub.login`; runs in the hub's process.
"""

from __future__ import annotations

import time
from typing import Any

from jupyterhub.authenticators.shared import SharedPasswordAuthenticator
from tornado import web
from traitlets import Integer

from edif_hub.attempts import Attempts
from edif_hub.errors import TooManyAttempts


class EdifPassword(SharedPasswordAuthenticator):
    """One password for everybody, and another for admins."""

    attempts_limit = Integer(10, config=True, help="Failed logins in a minute from one address, or for one name.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._attempts = Attempts(self.attempts_limit, time.monotonic)

    async def authenticate(self, handler: Any, data: dict[str, str]) -> dict[str, Any] | None:
        """The account, or None if the password is wrong; too many wrong ones are not looked at."""
        counted = (f"address {handler.request.remote_ip}", f"name {data.get('username', '')[:64].lower()}")
        try:
            self._attempts.require(*counted)
        except TooManyAttempts as error:
            handler.set_header("Retry-After", str(error.wait_s))
            raise web.HTTPError(error.http_status, str(error), reason=error.title) from error
        account: dict[str, Any] | None = await super().authenticate(handler, data)
        if account is None:
            self._attempts.failed(*counted)
        return account
