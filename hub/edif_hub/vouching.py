"""Does the provider still vouch for this person?  What is remembered of a login, and what asking again comes to.

Called by :mod:`edif_hub.university` at a login and when an account is used later; runs in the hub's process.  What is
remembered (:class:`Standing`) lies encrypted in the hub's database, as JupyterHub's ``auth_state``.

=========  =============================================  =======================================================
CONFIRMED  the provider answers and a rule lets them in   claims, groups and tokens are renewed
GONE       it refuses a refresh token that outlives       session, servers and every key end
           sessions, or no rule lets them in any more
UNHEARD    it does not answer                             nothing changes, for ``outage_s`` since its last word
UNASKABLE  there is nothing to ask with: no token, or     the session ends after ``session_s``, keys and servers go
           one that ended with the session over there     on until ``keys_without_login_days``
=========  =============================================  =======================================================
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict

from edif_hub.claims import admit
from edif_hub.errors import NotAdmitted, ProviderSilent, TokenRefused
from edif_hub.provider import Provider, Refusal, Tokens


class Standing(BaseModel):
    """A login as it is remembered; times in seconds since the epoch."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    issuer_id: str
    issuer: str
    subject: str
    id_claims: dict[str, Any]  #: of the last id_token
    claims: dict[str, Any]  #: of the last id_token, and what was said since
    access_token: str | None
    access_ends_at: float
    refresh_token: str | None
    offline: bool  #: the refresh token outlives the session at the provider
    id_token: str | None  #: shown to the provider when logging out
    login_at: float
    confirmed_at: float
    session_over: bool = False

    @classmethod
    def from_login(cls, provider: Provider, tokens: Tokens, said: dict[str, Any], now: float) -> Standing:
        """What a login that has just succeeded leaves."""
        return cls(
            issuer_id=provider.issuer.id,
            issuer=provider.issuer.issuer,
            subject=tokens.claims["sub"],
            id_claims=tokens.claims,
            claims={**tokens.claims, **said},
            access_token=tokens.access_token,
            access_ends_at=tokens.access_ends_at,
            refresh_token=tokens.refresh_token,
            offline=tokens.offline,
            id_token=tokens.id_token,
            login_at=now,
            confirmed_at=now,
        )

    def renewed(self, tokens: Tokens) -> Standing:
        """With the tokens that its refresh token has bought.

        Raises:
            TokenRefused: they are somebody else's.
        """
        if tokens.claims and tokens.claims["sub"] != self.subject:
            raise TokenRefused("The provider's renewal is about somebody else.")
        update = {
            "access_token": tokens.access_token,
            "access_ends_at": tokens.access_ends_at,
            "refresh_token": tokens.refresh_token,
            "offline": tokens.offline,
            "id_token": tokens.id_token or self.id_token,
            "id_claims": tokens.claims or self.id_claims,
        }
        return self.model_copy(update=update)

    def logged_out(self) -> Standing:
        """After a log-out: tokens that ended with the session over there are no use any more."""
        if self.offline:
            return self.model_copy(update={"id_token": None})
        return self.model_copy(update={"id_token": None, "refresh_token": None, "access_token": None})


class Word(Enum):
    """What asking the provider came to."""

    CONFIRMED = "confirmed"
    GONE = "gone"
    UNHEARD = "unheard"
    UNASKABLE = "unaskable"


async def ask_again(
    provider: Provider, standing: Standing, contact: str, clock: Callable[[], float]
) -> tuple[Word, Standing, str]:
    """Ask the provider about this person; returns its word, what is now to be remembered, and why.

    The refresh token goes first: its answer has a new id_token, and some providers put claims nowhere else.  Once it is
    spent the new one must be kept, whatever comes next: one that is used twice ends all (RFC 9700, 4.14).
    """
    try:
        if standing.refresh_token:
            tokens = await provider.renew(standing.refresh_token, standing.offline)
            standing = standing.renewed(tokens)
        elif not standing.access_token or clock() >= standing.access_ends_at:
            return Word.UNASKABLE, standing, "there is nothing to ask with"
        said = await provider.userinfo(str(standing.access_token), standing.subject)
    except Refusal as refusal:
        if standing.offline:
            return Word.GONE, standing, f"the provider says {refusal}: deleted, locked, or all its sessions ended there"
        spent = standing.model_copy(update={"refresh_token": None, "access_token": None})
        return Word.UNASKABLE, spent, f"the provider says {refusal}: its session is over"
    except (ProviderSilent, TokenRefused) as error:
        return Word.UNHEARD, standing, "; ".join([str(error), *getattr(error, "__notes__", [])])
    standing = standing.model_copy(update={"claims": {**standing.id_claims, **said}, "confirmed_at": clock()})
    try:
        admit(standing.claims, provider.issuer, contact)
    except NotAdmitted as refusal:
        return Word.GONE, standing, str(refusal)
    return Word.CONFIRMED, standing, ""
