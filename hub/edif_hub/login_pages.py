"""The pages of a university login: off to the provider, back from it, out again.

Routed by :class:`edif_hub.university.EdifAuthenticator`; runs in the hub's process.  One login is one
:class:`Attempt`, kept in a signed cookie of the browser that began it and good for one answer.  Where a browser goes
afterwards is a path on this host and never an address.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass, fields
from typing import Any
from urllib.parse import urlencode

from jupyterhub.handlers import BaseHandler
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthLoginHandler, OAuthLogoutHandler
from tornado import web

from edif_hub.errors import HubError, LoginFailed, LoginStale, NotAdmitted, TokenRefused, TooManyAttempts
from edif_hub.vouching import Standing

_COOKIE = "edif-login-"
_LIFE_S = 600
_MOST_COOKIES = 4
_STALE = "It was begun in another browser, or too long ago, or was answered before. Log in again."


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login that has begun."""

    issuer_id: str
    state: str
    nonce: str
    verifier: str
    next_url: str


class _LoginPage(BaseHandler):
    """What the pages share: refusals are pages too."""

    async def show_refusal(self, error: HubError, issuer_id: str = "", next_url: str = "") -> None:
        """The sentence of ``error``, and the way back, which still leads to ``next_url``."""
        self.log.warning("login refused: %s: %s", type(error).__name__, "; ".join([str(error), *_notes(error)]))
        self.set_status(error.http_status)
        self.set_header("Cache-Control", "no-store")
        if isinstance(error, TooManyAttempts):
            self.set_header("Retry-After", str(error.wait_s))
        again = {"issuer": issuer_id, **({"next": next_url} if next_url else {})}
        content = {"title": error.title, "said": str(error), "again": urlencode(again) if issuer_id else ""}
        self.finish(
            await self.render_template(
                "edif_refused.html",
                **content,
                contact=self.authenticator.settings.contact,
                other_account=isinstance(error, NotAdmitted),
            )
        )


class LoginStart(_LoginPage, OAuthLoginHandler):
    """``/hub/oauth_login?issuer=ID``: off to the provider, if it is there."""

    async def get(self) -> None:
        """Remember the attempt in this browser and send it away."""
        provider = self.authenticator.require_issuer(self.get_argument("issuer", ""))
        attempt = Attempt(
            issuer_id=provider.issuer.id,
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next_url=self._get_next_url() or "",
        )
        try:
            self.authenticator.attempts.require(self.request.remote_ip)
            address = await provider.login_address(
                self.authenticator.get_callback_url(),
                attempt.state,
                attempt.nonce,
                attempt.verifier,
                again=bool(self.get_argument("again", "")),
            )
        except HubError as error:
            await self.show_refusal(error, provider.issuer.id, attempt.next_url)
            return
        self._remember(attempt)
        self.redirect(address)

    def _remember(self, attempt: Attempt) -> None:
        begun = [name for name in self.request.cookies if name.startswith(_COOKIE)]
        for name in begun[: max(0, len(begun) - _MOST_COOKIES + 1)]:
            self.clear_cookie(name, path=self.hub.base_url)
        self._set_cookie(
            _COOKIE + attempt.state[:8],
            json.dumps(asdict(attempt)),
            path=self.hub.base_url,
            expires_days=_LIFE_S / 86400,
            samesite="lax",
        )


class LoginReturn(_LoginPage, OAuthCallbackHandler):
    """``/hub/oauth_callback``: back from the provider, with a code or with an error."""

    attempt: Attempt
    code: str

    async def get(self) -> None:
        """Log the person in, or say why not."""
        way_back: tuple[str, ...] = ()
        try:
            self.authenticator.attempts.require(self.request.remote_ip)
            self.attempt = self._take_attempt()
            way_back = (self.attempt.issuer_id, self.attempt.next_url)
            await self._check_answer()
            user = await self.login_user()
        except HubError as error:
            if isinstance(error, LoginFailed) and not isinstance(error, NotAdmitted | TooManyAttempts):
                self.authenticator.attempts.failed(self.request.remote_ip)
            await self.show_refusal(error, *way_back)
            return
        if user is None:
            await self.show_refusal(NotAdmitted("This account is blocked here."), *way_back)
            return
        self.authenticator.apply_groups(user, Standing.model_validate(await user.get_auth_state()))
        self.redirect(self.attempt.next_url or self.get_next_url(user))

    def _take_attempt(self) -> Attempt:
        """The attempt that this answers, which is spent by that.

        Raises:
            LoginStale: there is none in this browser, or it was answered before.
        """
        state = self.get_argument("state", "")
        name = _COOKIE + state[:8]
        kept = self.get_secure_cookie(name, max_age_days=_LIFE_S / 86400) if state else None
        self.clear_cookie(name, path=self.hub.base_url)
        if not kept:
            raise LoginStale(_STALE)
        found = json.loads(kept)
        attempt = Attempt(**{each.name: found[each.name] for each in fields(Attempt)})
        used, now = self.authenticator.used_states, time.monotonic()
        for old in [old for old, ends_at in used.items() if ends_at < now]:
            del used[old]
        if not secrets.compare_digest(attempt.state.encode(), state.encode()) or state in used:
            raise LoginStale(_STALE)
        used[state] = now + _LIFE_S
        return attempt

    async def _check_answer(self) -> None:
        """The answer is that of the provider which was asked (RFC 9207), and holds a code.

        Raises:
            TokenRefused, LoginFailed, ProviderSilent: as the sentence says.
        """
        provider = self.authenticator.require_issuer(self.attempt.issuer_id)
        title = provider.issuer.title
        metadata = await provider.known_metadata()
        named = self.get_argument("iss", "")
        if named != provider.issuer.issuer and (
            named or metadata.get("authorization_response_iss_parameter_supported") is True
        ):
            raise TokenRefused(f"The answer is not that of {title}, which was asked. Log in again.")
        error = self.get_argument("error", "")
        if error == "access_denied":
            raise LoginFailed(f"The login was given up at {title}.")
        if error:
            told = "".join(char for char in self.get_argument("error_description", "")[:200] if char.isprintable())
            raise LoginFailed(f"{title} could not log you in: {error}{f' ({told})' if told else ''}.")
        self.code = self.get_argument("code", "")
        if not self.code:
            raise LoginFailed(f"{title} sent you back without a code. Log in again.")


class LogOut(OAuthLogoutHandler):
    """``/hub/logout``: out here, then out at the provider."""

    _told: Any = None

    async def default_handle_logout(self) -> None:
        """Before the hub forgets who this is."""
        if self.current_user:
            self._told = await self.authenticator.remember_logout(self.current_user)
        await super().default_handle_logout()

    async def render_logout_page(self) -> None:
        """On to the provider, which sends the browser back; without an answer of it, the page that says so."""
        done = f"{self.authenticator.site.public_url}/hub/edif-logged-out"
        provider, id_token = self._told or (None, None)
        address = await provider.logout_address(id_token, done) if provider else None
        self.redirect(address or f"{self.hub.base_url}edif-logged-out{'?here=1' if provider else ''}")


class LoggedOut(BaseHandler):
    """``/hub/edif-logged-out``: where a log-out ends."""

    @web.removeslash
    async def get(self) -> None:
        """Say what has been logged out of."""
        here_alone = bool(self.get_argument("here", ""))
        self.finish(await self.render_template("edif_logged_out.html", here_alone=here_alone))


def _notes(error: HubError) -> list[str]:
    return list(getattr(error, "__notes__", []))
