"""One OpenID provider, as the hub talks to it: what it offers, its keys, codes bought, tokens checked and renewed.

Used by :mod:`edif_hub.university`; runs in the hub's process.  Everything that the provider signs is checked here:
signature, issuer, audience, time and nonce (OpenID Connect Core 1.0, 3.1.3.7).  Two failures are kept apart, for they
mean opposite things: a provider that does not answer, or with a fault of its own (:class:`ProviderSilent`), and one
that says no (:class:`Refusal` of a token, :class:`TokenRefused`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import jwt

from edif_hub.errors import LoginStale, ProviderSilent, TokenRefused
from edif_hub.login_settings import Issuer

#: Signatures made with a key of the provider's alone; ``none`` and shared secrets are not among them.
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"})

_METADATA_S = 3600.0  #: how long the discovery document is believed
_KEYS_AGAIN_S = 30.0  #: an unknown key is asked for this often, whoever sends tokens that name it
_CLOCKS_APART_S = 60
_NEEDED = ("authorization_endpoint", "token_endpoint", "jwks_uri")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a code or a refresh token has bought."""

    access_token: str
    access_ends_at: float  #: by this machine's clock
    refresh_token: str | None
    offline: bool  #: the refresh token outlives the person's session at the provider
    id_token: str | None
    claims: dict[str, Any]  #: of the id_token, checked; empty without one


class Refusal(Exception):
    """The provider knows the question and says no: this refresh or access token is worth nothing any more."""


class Provider:
    """One provider.

    Args:
        issuer: its settings.
        secret: of the client; empty for a public client.
        client: asks it; its timeout bounds how long a login hangs.
    """

    def __init__(self, issuer: Issuer, secret: str, client: httpx.AsyncClient, clock: Any) -> None:
        self.issuer = issuer
        self._secret = secret
        self._client = client
        self._clock = clock  # returns seconds since the epoch
        self._metadata: dict[str, Any] = {}
        self._metadata_at = float("-inf")
        self._keys: dict[str, jwt.PyJWK] = {}
        self._keys_at = float("-inf")

    # -- what it offers ---------------------------------------------------------

    async def metadata(self, at_most_s: float = _METADATA_S) -> dict[str, Any]:
        """The discovery document, not older than that.

        Raises:
            ProviderSilent: it cannot be had, or is another issuer's.
        """
        if self._clock() - self._metadata_at >= at_most_s:
            address = f"{self.issuer.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = await self._read(self._client.build_request("GET", address))
            if found.get("issuer") != self.issuer.issuer:
                raise self._silent(f"its discovery document is that of {found.get('issuer')!r}")
            missing = [name for name in _NEEDED if not isinstance(found.get(name), str)]
            if missing:
                raise self._silent(f"its discovery document lacks {', '.join(missing)}")
            self._metadata, self._metadata_at = found, self._clock()
        return self._metadata

    async def known_metadata(self) -> dict[str, Any]:
        """The discovery document, however old if the provider is down: endpoints seldom move."""
        try:
            return await self.metadata()
        except ProviderSilent:
            if not self._metadata:
                raise
            return self._metadata

    async def login_address(
        self, redirect_uri: str, state: str, nonce: str, verifier: str, *, again: bool = False
    ) -> str:
        """Where a browser is sent to log in; ``again``: with the form, though the provider knows the person.

        Raises:
            ProviderSilent: better a page of ours than a dead address.
        """
        metadata = await self.metadata(at_most_s=1)
        supported = metadata.get("scopes_supported")
        known = supported if isinstance(supported, list) else self.issuer.scopes
        scopes = [scope for scope in self.issuer.scopes if scope != "offline_access" or scope in known]
        asked = {
            **self.issuer.authorize_parameters,
            "client_id": self.issuer.client_id,
            "redirect_uri": redirect_uri,
            "response_type": "code",
            "scope": " ".join(scopes),
            "state": state,
            "nonce": nonce,
            "code_challenge": _hashed(verifier.encode()),
            "code_challenge_method": "S256",
        }
        if again:
            asked["prompt"] = " ".join(dict.fromkeys(["login", *asked.get("prompt", "").split()]))
        return _with_query(metadata["authorization_endpoint"], asked)

    async def logout_address(self, id_token: str | None, return_to: str) -> str | None:
        """Where a browser is sent to log out there too; None if the provider is down or knows no such thing."""
        try:
            endpoint = (await self.metadata(at_most_s=1)).get("end_session_endpoint")
        except ProviderSilent:
            return None
        if not isinstance(endpoint, str):
            return None
        hint = {"id_token_hint": id_token} if id_token else {}
        return _with_query(
            endpoint, {"client_id": self.issuer.client_id, "post_logout_redirect_uri": return_to, **hint}
        )

    # -- tokens -------------------------------------------------------------------

    async def buy(self, code: str, verifier: str, redirect_uri: str, nonce: str) -> Tokens:
        """Exchange the code of a login.

        Raises:
            LoginStale: the code is not worth anything (any more).
            TokenRefused: there is no id_token, or it is not what it should be.
            ProviderSilent: no answer, or the client's own credentials are refused.
        """
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
        try:
            said = await self._ask_for_tokens({**asked, "code_verifier": verifier})
        except Refusal as refusal:
            raise LoginStale(f"{self.issuer.title} does not accept this login any more. Log in again.") from refusal
        if not isinstance(said.get("id_token"), str):
            raise TokenRefused(f"{self.issuer.title} sent no id_token, so nothing says who you are.")
        return self._tokens(said, await self.verified(said["id_token"], nonce=nonce), None)

    async def renew(self, refresh_token: str, offline: bool) -> Tokens:
        """New tokens for a refresh token.

        Raises:
            Refusal: the token is worth nothing any more.
            TokenRefused: the new id_token is not what it should be.
            ProviderSilent: no answer, or the client's own credentials are refused.
        """
        said = await self._ask_for_tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        claims = await self.verified(said["id_token"]) if isinstance(said.get("id_token"), str) else {}
        tokens = self._tokens(said, claims, refresh_token)
        return tokens if "scope" in said else _replaced(tokens, offline=offline)

    async def userinfo(self, access_token: str, subject: str) -> dict[str, Any]:
        """What the provider says of ``subject`` now; empty where it has no such endpoint.

        Raises:
            Refusal: the token is worth nothing any more.
            TokenRefused: the answer is about somebody else.
            ProviderSilent: no answer.
        """
        address = (await self.known_metadata()).get("userinfo_endpoint")
        if not isinstance(address, str):
            return {}
        request = self._client.build_request("GET", address, headers={"Authorization": f"Bearer {access_token}"})
        said = await self._read(request, refused=frozenset({401, 403}))
        if said.get("sub") != subject:
            raise TokenRefused(f"{self.issuer.title} answered about somebody else. Log in again.")
        return said

    async def verified(self, id_token: str, *, nonce: str | None = None) -> dict[str, Any]:
        """The claims of an id_token whose signature, issuer, audience, time and nonce are right.

        Raises:
            TokenRefused: one of them is not; the sentence says which.
            ProviderSilent: its keys cannot be had.
        """
        try:
            header = jwt.get_unverified_header(id_token)
            algorithm, key_id = header.get("alg"), str(header.get("kid") or "")
            if algorithm not in ALGORITHMS:
                raise jwt.InvalidAlgorithmError(f"it is signed by {algorithm!r}")
            claims: dict[str, Any] = jwt.decode(
                id_token,
                (await self._key(key_id)).key,
                algorithms=[algorithm],
                audience=self.issuer.client_id,
                issuer=self.issuer.issuer,
                leeway=_CLOCKS_APART_S,
                options={"require": ["iss", "sub", "aud", "exp", "iat"]},
            )
        except (jwt.PyJWTError, TypeError, ValueError) as error:
            raise TokenRefused(f"The id_token of {self.issuer.title} was refused: {error}. Log in again.") from error
        if claims.get("azp", self.issuer.client_id) != self.issuer.client_id:
            raise TokenRefused(f"The id_token of {self.issuer.title} is for another application. Log in again.")
        if nonce is not None and claims.get("nonce") != nonce:
            raise TokenRefused(f"The id_token of {self.issuer.title} is not the answer to this login. Log in again.")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise TokenRefused(f"The id_token of {self.issuer.title} names nobody.")
        return claims

    # -- asking -------------------------------------------------------------------

    async def _key(self, id: str) -> jwt.PyJWK:
        """The key of that name; a token without a name fits a provider with one key alone."""
        found = self._keys.get(id) if id or len(self._keys) != 1 else next(iter(self._keys.values()))
        if found is None and self._clock() - self._keys_at >= _KEYS_AGAIN_S:
            said = await self._read(self._client.build_request("GET", (await self.known_metadata())["jwks_uri"]))
            self._keys, self._keys_at = _signing_keys(said), self._clock()
            found = self._keys.get(id) if id or len(self._keys) != 1 else next(iter(self._keys.values()))
        if found is None:
            raise jwt.InvalidKeyError("it is signed with a key that the provider does not show")
        return found

    async def _ask_for_tokens(self, asked: dict[str, str]) -> dict[str, Any]:
        metadata = await self.known_metadata()
        ways = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        headers = {"Accept": "application/json"}
        if self._secret and "client_secret_basic" in ways:
            pair = f"{quote(self.issuer.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            asked = {**asked, "client_id": self.issuer.client_id}
            if self._secret:
                asked["client_secret"] = self._secret
        request = self._client.build_request("POST", metadata["token_endpoint"], data=asked, headers=headers)
        said = await self._read(request, refused=frozenset({400}))
        if not isinstance(said.get("access_token"), str):
            raise self._silent("its answer holds no access token")
        return said

    async def _read(self, request: httpx.Request, refused: frozenset[int] = frozenset()) -> dict[str, Any]:
        """A JSON object; a status in ``refused`` is the provider's no, if it speaks of the token and not of us."""
        try:
            answer = await self._client.send(request)
        except httpx.HTTPError as error:
            raise self._silent(type(error).__name__) from error
        said = _object(answer)
        if answer.status_code in refused and said.get("error", "invalid_token") in {"invalid_grant", "invalid_token"}:
            raise Refusal(str(said.get("error", answer.status_code)))
        if answer.status_code != 200:
            raise self._silent(f"status {answer.status_code} {said.get('error', '')} at {request.url.path}")
        return said

    def _tokens(self, said: Mapping[str, Any], claims: dict[str, Any], before: str | None) -> Tokens:
        lives_s = said.get("expires_in")
        renewed = said.get("refresh_token")
        return Tokens(
            access_token=str(said["access_token"]),
            access_ends_at=self._clock() + (float(lives_s) if isinstance(lives_s, int | float) else 300.0),
            refresh_token=renewed if isinstance(renewed, str) else before,
            offline="offline_access" in str(said.get("scope", "")).split(),
            id_token=said.get("id_token") if claims else None,
            claims=claims,
        )

    def _silent(self, reason: str) -> ProviderSilent:
        error = ProviderSilent(
            f"The login service of {self.issuer.title} does not answer at the moment. People who are logged in stay"
            " logged in; a new login has to wait. Try again in a few minutes."
        )
        error.add_note(reason)  # for the log, not for the page
        return error


def _replaced(tokens: Tokens, *, offline: bool) -> Tokens:
    """A renewal that says nothing about scopes leaves them as they were (RFC 6749, 5.1)."""
    return Tokens(
        tokens.access_token, tokens.access_ends_at, tokens.refresh_token, offline, tokens.id_token, tokens.claims
    )


def _signing_keys(said: Mapping[str, Any]) -> dict[str, jwt.PyJWK]:
    """Public keys for signatures by their names; what this library does not know is left out."""
    found = {}
    for key in said.get("keys", ()):
        if isinstance(key, dict) and key.get("use", "sig") == "sig" and key.get("kty") != "oct":
            try:
                found[str(key.get("kid") or "")] = jwt.PyJWK(key)
            except jwt.PyJWTError:
                continue
    return found


def _object(answer: httpx.Response) -> dict[str, Any]:
    try:
        said = answer.json()
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _with_query(address: str, parameters: dict[str, str]) -> str:
    return f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}"


def _hashed(verifier: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
