"""Who looks at the page: the hub's login, taken over by OAuth, kept in a cookie.

Used by :mod:`~edif_backend.gateway.web_page`, and by the course service for pages of its own.  The hub gives out a
token with the scope of a trace key and no other, so neither a stolen cookie nor this process can do more in a user's
name than their notebooks' keys can.  The token ends when its user logs out of the hub.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from urllib.parse import urlencode

import httpx
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response

from edif_backend.errors import KeyRefused, NotServing
from edif_backend.gateway.identity import Identity, User
from edif_protocol.wire import PAGE_CLIENT, PAGE_PATH

#: The hub's own mark of one login in one browser: a cookie of ours is worth nothing beside another.
_HUB_SESSION = "jupyterhub-session-id"
_ATTEMPT_S = 600


@dataclass(frozen=True, slots=True)
class Site:
    """Pages below one path, and their name among the hub's OAuth clients."""

    client: str
    path: str
    cookie: str

    @property
    def callback(self) -> str:
        """Where the hub sends the browser back to."""
        return f"{self.path}oauth_callback"

    def state(self, attempt: str) -> str:
        """The cookie of one attempt to log in."""
        return f"{self.cookie}-state-{attempt[:8]}"


PAGE = Site(PAGE_CLIENT, PAGE_PATH, "edif-page")


@dataclass(frozen=True, slots=True)
class Visitor:
    """The logged-in user of a page."""

    user: User
    proof: str  #: what a form of theirs must carry, so that no other site can send it


class SigningIn:
    """The page's side of the hub's OAuth.

    Args:
        hub_url: address of the hub as this process reaches it, without ``/hub``.
        secret: of the OAuth client, known to the hub as well.
    """

    def __init__(
        self, client: httpx.AsyncClient, hub_url: str, secret: str, identity: Identity, site: Site = PAGE
    ) -> None:
        self._client = client
        self._hub_url = hub_url
        self._secret = secret
        self._identity = identity
        self._site = site

    async def visitor(self, connection: HTTPConnection) -> Visitor | None:
        """Who has logged in with this browser; None for nobody.

        Raises:
            NotServing: the hub does not answer.
        """
        token, _, mark = connection.cookies.get(self._site.cookie, "").partition(".")
        if not token or not hmac.compare_digest(mark.encode(), self._mark(connection, token).encode()):
            return None
        try:
            user = await self._identity.user(token)
        except KeyRefused:
            return None
        return Visitor(user, self._sign("form", token))

    def begin(self, request: Request) -> Response:
        """Send the browser to the hub; it comes back to where it was."""
        state = secrets.token_hex(16)
        after = request.url.path if request.method == "GET" else self._site.path
        asked = {
            "client_id": self._site.client,
            "redirect_uri": self._site.callback,
            "response_type": "code",
            "state": state,
        }
        answer = RedirectResponse(f"/hub/api/oauth2/authorize?{urlencode(asked)}", 303)
        self._set(answer, request, self._site.state(state), f"{state}.{after.encode().hex()}", _ATTEMPT_S)
        return answer

    async def finish(self, request: Request, code: str, state: str) -> Response:
        """The browser is back from the hub with a code, which buys the token.

        Raises:
            KeyRefused: this browser did not begin that login, or the hub does not let this user trace.
            NotServing: the hub does not answer.
        """
        begun, _, after = request.cookies.get(self._site.state(state), "").partition(".")
        if not begun or not hmac.compare_digest(begun.encode(), state.encode()):
            raise KeyRefused("This login was not begun in this browser, or too long ago. Open the page again.")
        token = await self._buy(code)
        await self._identity.user(token)
        answer = RedirectResponse(bytes.fromhex(after).decode(), 303)
        answer.delete_cookie(self._site.state(state), path=self._site.path)
        self._set(answer, request, self._site.cookie, f"{token}.{self._mark(request, token)}", None)
        return answer

    async def _buy(self, code: str) -> str:
        form = {
            "client_id": self._site.client,
            "client_secret": self._secret,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._site.callback,
        }
        try:
            answer = await self._client.post(f"{self._hub_url}/hub/api/oauth2/token", data=form)
        except httpx.HTTPError as error:
            raise NotServing("The hub, which knows who you are, does not answer; try again in a minute.") from error
        if answer.is_error:
            raise KeyRefused("The hub does not confirm this login. Open the page again.")
        return str(answer.json()["access_token"])

    def _mark(self, connection: HTTPConnection, token: str) -> str:
        return self._sign("cookie", token, connection.cookies.get(_HUB_SESSION, ""))

    def _sign(self, *parts: str) -> str:
        return hmac.new(self._secret.encode(), "\n".join(parts).encode(), hashlib.sha256).hexdigest()

    def _set(self, answer: Response, request: Request, name: str, value: str, age_s: int | None) -> None:
        secure = request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(name, value, age_s, path=self._site.path, secure=secure, httponly=True, samesite="lax")
