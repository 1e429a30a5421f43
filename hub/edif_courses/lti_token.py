"""The token of an LTI 1.3 launch, checked whole: signature, issuer, audience, time, nonce, deployment, message.

Pure but for the keys, which are handed in; called by :mod:`edif_courses.lti_launch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jwt

from edif_courses.errors import Unusable
from edif_courses.records import Role

_LTI = "https://purl.imsglobal.org/spec/lti/claim/"
_NAMES_AND_ROLES = "https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"
_INSTRUCTORS = frozenset({"http://purl.imsglobal.org/vocab/lis/v2/membership#Instructor", "Instructor"})
_CHARACTERS = 255
_TOKEN_CHARACTERS = 32 * 1024
_LEEWAY_S = 60
#: A token is for this launch, now: an older one is refused whatever end it names.
_LONGEST_S = 3600


@dataclass(frozen=True, slots=True)
class Platform:
    """A learning platform that may launch here."""

    issuer: str
    client: str
    deployments: str
    auth_url: str
    token_url: str
    keys_url: str


@dataclass(frozen=True, slots=True)
class Launch:
    """What a checked token says."""

    issuer: str
    client: str
    subject: str
    name: str
    role: Role
    context: str
    context_title: str
    members_url: str

    def record(self) -> dict[str, Any]:
        """For the register, as JSON."""
        return asdict(self)


class WrongKey(Unusable):
    """The token is signed with a key that is not among those known; they may have changed."""


def key_of(token: str, keys: Mapping[str, Any]) -> Any:
    """The key that the token says it is signed with.

    Raises:
        Unusable: it is no signed token. WrongKey: the key is not known.
    """
    if len(token) > _TOKEN_CHARACTERS:
        raise Unusable("The token of the launch is too long.")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise Unusable("The launch carries no token that can be read: start it again from your course.") from error
    if header.get("alg") != "RS256" or not isinstance(header.get("kid"), str):
        raise Unusable("The token of the launch is not signed as LTI 1.3 asks (RS256, with a key id).")
    if header["kid"] not in keys:
        raise WrongKey("The token of the launch is signed with a key that the platform does not publish.")
    return keys[header["kid"]]


def read_launch(token: str, key: Any, platform: Platform, nonce: str, now: float) -> Launch:
    """What the token says, once all of it has been checked.

    Raises:
        Unusable: with what is wrong.
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=platform.client,
            issuer=platform.issuer,
            leeway=_LEEWAY_S,
            options={"require": ["exp", "iat", "nonce", "sub", "aud", "iss"], "verify_exp": False, "verify_iat": False},
        )
    except jwt.PyJWTError as error:
        raise Unusable(f"The token of the launch is not valid ({_reason(error)}): start it again.") from error
    _check_time(claims, now)
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != platform.client:
        raise Unusable("The token of the launch is for another tool.")
    if claims["nonce"] != nonce:
        raise Unusable("The token of the launch belongs to another attempt: start it again from your course.")
    if claims.get(f"{_LTI}version") != "1.3.0" or claims.get(f"{_LTI}message_type") != "LtiResourceLinkRequest":
        raise Unusable("That is no launch of an activity by LTI 1.3.")
    if claims.get(f"{_LTI}deployment_id") not in platform.deployments.split():
        raise Unusable("The platform launches from a deployment that was not registered here: tell your operator.")
    return _launch(claims, platform)


def _check_time(claims: Mapping[str, Any], now: float) -> None:
    begun, ends = claims["iat"], claims["exp"]
    if not all(isinstance(at, int | float) and not isinstance(at, bool) for at in (begun, ends)):
        raise Unusable("The token of the launch has no valid times.")
    if not begun - _LEEWAY_S <= now < min(ends, begun + _LONGEST_S) + _LEEWAY_S:
        raise Unusable("The token of the launch has ended, or the clocks differ: start it again from your course.")


def _launch(claims: Mapping[str, Any], platform: Platform) -> Launch:
    context = claims.get(f"{_LTI}context")
    roles = claims.get(f"{_LTI}roles")
    if not isinstance(context, dict) or not isinstance(roles, list):
        raise Unusable("The launch does not say from which course it comes, or who you are in it.")
    service = claims.get(_NAMES_AND_ROLES)
    url = service.get("context_memberships_url") if isinstance(service, dict) else ""
    subject, id = _text(claims["sub"]), _text(context.get("id"))
    if not subject or not id:
        raise Unusable("The launch does not say who you are, or from which course it comes.")
    return Launch(
        issuer=platform.issuer,
        client=platform.client,
        subject=subject,
        name=shown(_text(claims.get("name"))),
        role=role_of(roles),
        context=id,
        context_title=shown(_text(context.get("title"))),
        members_url=url if isinstance(url, str) and len(url) < 2000 else "",
    )


def role_of(roles: list[Any]) -> Role:
    """What somebody with these roles of the platform is here."""
    return Role.INSTRUCTOR if any(isinstance(r, str) and r in _INSTRUCTORS for r in roles) else Role.STUDENT


def shown(text: str) -> str:
    """A name of the platform's, as one line that can be shown."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())[:100]


def _text(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= _CHARACTERS else ""


def _reason(error: Exception) -> str:
    return str(error)[:100].rstrip(".")
