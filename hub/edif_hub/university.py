"""``EdifAuthenticator``: people log in at their university; what it says later counts as well.

Set up by :mod:`edif_hub.login`; runs in the hub's process. A small subclass of oauthenticator's generic one: the
pages are in :mod:`~edif_hub.login_pages`, talking to a provider in :mod:`~edif_hub.provider`, what its claims mean in
:mod:`~edif_hub.claims`, what asking again comes to in :mod:`~edif_hub.vouching`. JupyterHub calls ``authenticate`` at
a login and ``refresh_user`` whenever an account is used, by cookie or by key, and the provider's word is older than
``refresh_s``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from jupyterhub.user import User
from oauthenticator.generic import GenericOAuthenticator
from tornado import web
from traitlets import Any as AnyTrait

from edif_hub.account_names import account_name, is_account_of_person
from edif_hub.attempts import Attempts
from edif_hub.claims import admit, hub_groups, is_admin, is_claimed, shown_name
from edif_hub.errors import LoginStale
from edif_hub.leaving import end_keys, end_sessions, stop_servers
from edif_hub.login_pages import LoggedOut, LoginReturn, LoginStart, LogOut
from edif_hub.login_settings import DAY_S, LoginSettings
from edif_hub.provider import Provider, Refusal
from edif_hub.vouching import Standing, Word, ask_again

_PATIENCE = httpx.Timeout(10, connect=4)


@dataclass(frozen=True)
class Site:
    """What the authenticator is built from."""

    settings: LoginSettings
    public_url: str  #: of the hub's proxy as browsers see it, without a trailing slash
    account_key: bytes = field(repr=False)
    client_secrets: dict[str, str] = field(repr=False)  #: by the issuer's id


@dataclass(frozen=True, slots=True)
class _Look:
    """What looking at an account again came to."""

    session: bool  #: a browser that is logged in stays so
    keys: bool  #: keys and servers go on


_STAYS, _LEAVES = _Look(True, True), _Look(False, False)


class EdifAuthenticator(GenericOAuthenticator):
    """Logs people in at one of several OpenID providers."""

    login_handler = LoginStart
    callback_handler = LoginReturn
    logout_handler = LogOut

    site = AnyTrait(config=True, help="What the authenticator is built from, a Site.")

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.settings: LoginSettings = self.site.settings
        client = httpx.AsyncClient(timeout=_PATIENCE, follow_redirects=False)
        self.providers = {
            issuer.id: Provider(issuer, self.site.client_secrets.get(issuer.id, ""), client, time.time)
            for issuer in self.settings.issuers
        }
        self.attempts = Attempts(self.settings.attempts, time.monotonic)
        self.used_states: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[_Look]] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """The pages of a login, beside the hub's own."""
        return [*super().get_handlers(app), (r"/edif-logged-out", LoggedOut)]

    def get_callback_url(self, handler: Any = None) -> str:
        """Where providers send browsers back to; never taken from the request's own Host header."""
        return f"{self.site.public_url}/hub/oauth_callback"

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whoever comes here has been let in, by :meth:`authenticate`, which can say why not."""
        return True

    # -- a login ------------------------------------------------------------------

    async def authenticate(self, handler: LoginReturn, data: Any = None, **kwargs: Any) -> dict[str, Any]:
        """The account of whoever has come back from the provider.

        Raises:
            LoginFailed, ProviderSilent: shown as a page by the handler.
        """
        attempt, code = handler.attempt, handler.code
        provider = self.providers[attempt.issuer_id]
        tokens = await provider.buy(code, attempt.verifier, self.get_callback_url(), attempt.nonce)
        try:
            said = await provider.userinfo(tokens.access_token, tokens.claims["sub"])
        except Refusal as refusal:
            raise LoginStale(f"{provider.issuer.title} took the login back. Log in again.") from refusal
        standing = Standing.from_login(provider, tokens, said, time.time())
        admit(standing.claims, provider.issuer, self.settings.contact)
        return self._model(provider, standing)

    def _model(self, provider: Provider, standing: Standing) -> dict[str, Any]:
        issuer, name = provider.issuer, account_name(self.site.account_key, standing.issuer, standing.subject)
        shown = shown_name(standing.claims, issuer)
        admin = True if name in self.admin_users or is_admin(standing.claims, issuer) else None
        if admin is None and issuer.admin_groups:
            admin = False  # the provider decides, and takes it back as well
        return {
            "name": name,
            "admin": admin,
            "user_info": {"name": shown, "display_name": shown, "login": issuer.title},
            "auth_state": standing.model_dump(),
        }

    def apply_groups(self, user: User, standing: Standing) -> None:
        """Give ``user`` the groups that the claims name and take away those they do not; courses' own stay."""
        provider = self.providers[standing.issuer_id]
        kept = {group.name for group in user.groups if not is_claimed(group.name)}
        user.sync_groups(sorted(kept | hub_groups(standing.claims, provider.issuer)))
        user.db.commit()

    # -- later --------------------------------------------------------------------

    async def refresh_user(self, user: User, handler: Any = None, **kwargs: Any) -> bool:
        """Whether ``user`` may go on with what this request carries, a cookie or a key.

        Requests of one person that come together share one look: a refresh token must not be spent twice.
        """
        looking = self._looking.get(user.name)
        if looking is None:
            looking = asyncio.create_task(self._look(user))
            self._looking[user.name] = looking
            looking.add_done_callback(lambda _: self._looking.pop(user.name, None))
        look = await asyncio.shield(looking)
        by_key = handler is None or getattr(handler, "_token_authenticated", False)
        return look.keys if by_key else look.session

    async def _look(self, user: User) -> _Look:
        remembered = await user.get_auth_state()
        if not remembered:  # rooms and services have no provider; a person without one logs in again
            return _LEAVES if is_account_of_person(user.name) else _STAYS
        standing = Standing.model_validate(remembered)
        provider, now = self.providers.get(standing.issuer_id), time.time()
        if provider is None or provider.issuer.issuer != standing.issuer:
            return await self._leave(user, "their login service is not one of this workbench's any more")
        if now - standing.login_at >= self.settings.keys_without_login_days * DAY_S:
            return await self._leave(user, f"no login for {self.settings.keys_without_login_days} days")
        word, standing, why = await ask_again(provider, standing, self.settings.contact, time.time)
        if word is Word.GONE:
            return await self._leave(user, why)
        await user.save_auth_state(standing.model_dump())
        if word is Word.CONFIRMED:
            self._confirm(user, provider, standing)
            return _STAYS
        if word is Word.UNHEARD:
            self.log.warning("nothing is known of %s, who stays as they are: %s", user.name, why)
            return _STAYS if now - standing.confirmed_at < self.settings.outage_s else _LEAVES
        return await self._unaskable(user, standing, now)

    def _confirm(self, user: User, provider: Provider, standing: Standing) -> None:
        model = self._model(provider, standing)
        user.user_info = model["user_info"]
        if model["admin"] is not None and model["admin"] != user.admin:
            user.admin = model["admin"]
            self.log.info("%s is %s", user.name, "an admin now" if user.admin else "no admin any more")
        self.apply_groups(user, standing)

    async def _unaskable(self, user: User, standing: Standing, now: float) -> _Look:
        """Nobody can be asked: the session has its time, keys and servers theirs."""
        if now - standing.login_at < self.settings.session_s:
            return _STAYS
        if not standing.session_over:
            end_sessions(user)
            await user.save_auth_state(standing.model_copy(update={"session_over": True}).model_dump())
            self.log.info("the session of %s is over", user.name)
        return _Look(session=False, keys=True)

    async def _leave(self, user: User, why: str) -> _Look:
        """Everything that ``user`` has here ends, but for their files."""
        end_sessions(user)
        keys = end_keys(user)
        user.sync_groups(sorted(group.name for group in user.groups if not is_claimed(group.name)))
        user.admin = False
        user.db.commit()
        await user.save_auth_state(None)
        stopping = stop_servers(user, self.log)
        for task in stopping:
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
        self.log.warning("%s left: %s; %d keys and %d servers end", user.name, why, keys, len(stopping))
        return _LEAVES

    async def remember_logout(self, user: User) -> tuple[Provider, str | None] | None:
        """Note that ``user`` logs out; returns the provider to tell, and the token to tell it by."""
        remembered = await user.get_auth_state()
        standing = Standing.model_validate(remembered) if remembered else None
        if standing is None or standing.issuer_id not in self.providers:
            return None
        await user.save_auth_state(standing.logged_out().model_dump())
        return self.providers[standing.issuer_id], standing.id_token

    def require_issuer(self, id: str) -> Provider:
        """The provider of that id; with one provider it need not be named."""
        if not id and len(self.providers) == 1:
            return next(iter(self.providers.values()))
        if id not in self.providers:
            raise web.HTTPError(404, "There is no such login service.")
        return self.providers[id]
