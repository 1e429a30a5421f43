"""Names and roles of an LTI platform: who is in its course, taken into the roster here.

Used by :mod:`edif_courses.lti_pages` and the ``edif course`` command.  People who have come here once are linked and
are put into the roster; the others are remembered by name, and get in when they open the activity.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from edif_courses.enrolment import Change, Enrolment
from edif_courses.errors import HubAway, Nothing, Unusable
from edif_courses.lti_token import Platform, role_of, shown
from edif_courses.records import Person, Role
from edif_courses.register import Register
from edif_courses.roster_file import Entry
from edif_courses.trail import Trail

_SCOPE = "https://purl.imsglobal.org/spec/lti-nrps/scope/contextmembership.readonly"
_MEMBERS = "application/vnd.ims.lti-nrps.v2.membershipcontainer+json"
_ANSWER_BYTES = 8 << 20
_PAGES = 50
KEY_ID = "edif"


def new_key() -> str:
    """A key of this tool's own, as PEM: platforms know its other half."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.private_bytes(*form).decode("ascii")


def published(pem: str) -> dict[str, Any]:
    """The set of keys that platforms check this tool's signatures with."""
    key = serialization.load_pem_private_key(pem.encode("ascii"), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    found: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {"keys": [{**found, "kid": KEY_ID, "alg": "RS256", "use": "sig"}]}


class NamesRoles:
    """Asks platforms who is in their courses.

    Args:
        key: this tool's private key as PEM, made on first use.
    """

    def __init__(
        self, register: Register, enrolment: Enrolment, trail: Trail, client: httpx.Client, key: Callable[[], str]
    ) -> None:
        self._register = register
        self._enrolment = enrolment
        self._trail = trail
        self._client = client
        self._key = key

    def expected(self, course: str) -> list[tuple[str, str]]:
        """Name and role of those on the platform's roster who have not come here yet."""
        query = "SELECT name, role FROM lti_expected WHERE course = :course ORDER BY name"
        return [(row["name"], row["role"]) for row in self._register.read(query, course=course)]

    def connected(self, course: str) -> bool:
        """Whether a platform tells this course's names and roles."""
        query = "SELECT 1 FROM lti_contexts WHERE course = :course AND members_url IS NOT NULL"
        return bool(self._register.read(query, course=course))

    def take(self, by: Person, course: str) -> tuple[Change, int]:
        """Bring the roster up to date; gives what changed and how many have not come yet.  Nobody is removed.

        Raises:
            Nothing: the course is connected with no platform that tells.
            HubAway, Unusable: the platform does not answer, or not as it should.
        """
        self._enrolment.enter(course, by, instructor=True)
        query = (
            "SELECT p.issuer, p.client, p.deployments, p.auth_url, p.token_url, p.keys_url, c.members_url"
            " FROM lti_contexts c JOIN lti_platforms p ON p.issuer = c.issuer AND p.client = c.client"
            " WHERE c.course = :course AND c.members_url IS NOT NULL"
        )
        rows = self._register.read(query, course=course)
        if not rows:
            raise Nothing("No learning platform tells the names and roles of this course.")
        entries: list[Entry] = []
        expected: list[tuple[str, str, str, str, str]] = []
        for row in rows:
            platform = Platform(*row[:6])
            for subject, name, role in self._people(platform, row["members_url"]):
                account = self._account(platform.issuer, subject)
                if account is None:
                    expected.append((course, platform.issuer, subject, name, role))
                elif not self._enrolment.left(course, account):
                    entries.append(Entry(account, name, role))
        with self._register.change() as connection:
            connection.execute("DELETE FROM lti_expected WHERE course = ?", (course,))
            connection.executemany("INSERT OR REPLACE INTO lti_expected VALUES (?, ?, ?, ?, ?)", expected)
        return self._enrolment.put(course, entries, "lti", by.account), len(expected)

    def _account(self, issuer: str, subject: str) -> str | None:
        query = "SELECT account FROM lti_people WHERE issuer = :issuer AND subject = :subject"
        rows = self._register.read(query, issuer=issuer, subject=subject)
        return str(rows[0]["account"]) if rows else None

    def _people(self, platform: Platform, url: str) -> list[tuple[str, str, Role]]:
        _same_site(url, platform)
        headers = {"Authorization": f"Bearer {self._token(platform)}", "Accept": _MEMBERS}
        found: list[tuple[str, str, Role]] = []
        for _ in range(_PAGES):
            answer = self._ask("GET", url, headers=headers)
            found.extend(_members(answer.json()))
            following = answer.links.get("next", {}).get("url")
            if not following:
                return found
            url = following
            _same_site(url, platform)
        raise Unusable("The platform's roster does not end: tell your operator.")

    def _token(self, platform: Platform) -> str:
        now = int(self._enrolment.now())
        claims = {
            "iss": platform.client,
            "sub": platform.client,
            "aud": platform.token_url,
            "iat": now,
            "exp": now + 60,
            "jti": secrets.token_hex(16),
        }
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": jwt.encode(claims, self._key(), "RS256", {"kid": KEY_ID}),
            "scope": _SCOPE,
        }
        token = self._ask("POST", platform.token_url, data=form).json().get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise Unusable("The platform gave no token for its roster.")
        return token

    def _ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, url, **more)
            answer.raise_for_status()
            if len(answer.content) > _ANSWER_BYTES or not isinstance(answer.json(), dict):
                raise Unusable("The platform's answer is not what LTI 1.3 says.")
        except httpx.HTTPError as error:
            raise HubAway("The learning platform does not answer, or refuses: try again later.") from error
        except ValueError as error:
            raise Unusable("The platform's answer is not what LTI 1.3 says.") from error
        return answer


def _members(answer: dict[str, Any]) -> list[tuple[str, str, Role]]:
    members = answer.get("members")
    if not isinstance(members, list):
        raise Unusable("The platform's roster is not what LTI 1.3 says.")
    found = []
    for one in members:
        subject = one.get("user_id") if isinstance(one, dict) else None
        roles = one.get("roles") if isinstance(one, dict) else None
        if isinstance(subject, str) and 0 < len(subject) <= 255 and isinstance(roles, list):
            name = one.get("name")
            if one.get("status", "Active") == "Active":
                found.append((subject, shown(name) if isinstance(name, str) else "", role_of(roles)))
    return found


def _same_site(url: str, platform: Platform) -> None:
    """A platform's roster is at the platform: its word must not have this service ask others."""
    allowed = {urlsplit(known)[:2] for known in (platform.issuer, platform.token_url)}
    if urlsplit(url)[:2] not in allowed:
        raise Unusable("The platform's roster is at another address than the platform: it is not asked.")
