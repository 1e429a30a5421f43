"""LTI 1.3: a learning platform (Moodle) sends people here, into the right course, as who they are here.

Used by :mod:`edif_courses.lti_pages`.  A launch never logs anybody in: the platform's subject is *linked* with the
account of whoever is logged in at the hub, once, on that person's word.  So everybody has one identity, and the
platform can put people into courses and nothing else.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt

from edif_courses.enrolment import Enrolment
from edif_courses.errors import NotAllowed, Nothing, NotNow, Unusable
from edif_courses.lti_token import Launch, Platform, WrongKey, key_of, read_launch
from edif_courses.records import Person, Role
from edif_courses.register import Register
from edif_courses.roster_file import Entry
from edif_courses.trail import Trail

_ATTEMPT_S = 600.0
_KEYS_S, _KEYS_AGAIN_S = 3600.0, 30.0


@dataclass(slots=True)
class _Keys:
    by_id: Mapping[str, Any]
    at: float


class LtiLaunch:
    """Launches from registered platforms.

    Args:
        launch_url: where platforms send the token, as browsers reach it.
        fetch: the JSON behind an address.
    """

    def __init__(
        self,
        register: Register,
        enrolment: Enrolment,
        trail: Trail,
        launch_url: str,
        fetch: Callable[[str], Any],
    ) -> None:
        self._register = register
        self._enrolment = enrolment
        self._trail = trail
        self._launch_url = launch_url
        self._fetch = fetch
        self._keys: dict[str, _Keys] = {}

    # -- platforms ---------------------------------------------------------------

    def register_platform(self, platform: Platform) -> None:
        """Let a platform launch here, or change its addresses.

        Raises:
            Unusable: an address that is neither https nor this machine's.
        """
        for url in (platform.issuer, platform.auth_url, platform.token_url, platform.keys_url):
            checked_url(url)
        if not platform.client or not platform.deployments.split():
            raise Unusable("A platform needs the client id that it gave this tool, and a deployment id.")
        self._register.write(
            "INSERT INTO lti_platforms VALUES (:issuer, :client, :deployments, :auth_url, :token_url, :keys_url, :now)"
            " ON CONFLICT (issuer, client) DO UPDATE SET deployments = excluded.deployments,"
            " auth_url = excluded.auth_url, token_url = excluded.token_url, keys_url = excluded.keys_url",
            {**{name: getattr(platform, name) for name in Platform.__slots__}, "now": self._enrolment.now()},
        )

    def platforms(self) -> list[Platform]:
        """Those that may launch."""
        query = "SELECT issuer, client, deployments, auth_url, token_url, keys_url FROM lti_platforms ORDER BY issuer"
        return [Platform(*row) for row in self._register.read(query)]

    def platform(self, issuer: str, client: str) -> Platform:
        """The platform of an issuer; ``client`` may be empty where there is one alone.

        Raises:
            Unusable: there is none, or several.
        """
        found = [one for one in self.platforms() if one.issuer == issuer and client in {"", one.client}]
        if len(found) != 1:
            raise Unusable(f"The platform {issuer[:100]!r} may not launch here: whoever runs this workbench adds it.")
        return found[0]

    # -- a launch ----------------------------------------------------------------

    def begin(self, issuer: str, client: str, login_hint: str, message_hint: str) -> tuple[str, str]:
        """The platform wants to launch: the attempt, and the address that the browser is sent to."""
        platform = self.platform(issuer, client)
        if not login_hint:
            raise Unusable("The platform does not say whom it sends: start again from your course.")
        state, nonce, now = secrets.token_hex(16), secrets.token_hex(16), self._enrolment.now()
        values = {"id": state, "nonce": nonce, "issuer": platform.issuer, "client": platform.client, "now": now}
        with self._register.change() as connection:
            connection.execute("DELETE FROM lti_attempts WHERE begun_at < ?", (now - _ATTEMPT_S,))
            connection.execute(
                "INSERT INTO lti_attempts VALUES (:id, :nonce, :issuer, :client, :now, NULL, NULL)", values
            )
        asked = {
            "scope": "openid",
            "response_type": "id_token",
            "response_mode": "form_post",
            "prompt": "none",
            "client_id": platform.client,
            "redirect_uri": self._launch_url,
            "state": state,
            "nonce": nonce,
            "login_hint": login_hint,
        }
        if message_hint:
            asked["lti_message_hint"] = message_hint
        joint = "&" if urlsplit(platform.auth_url).query else "?"
        return state, f"{platform.auth_url}{joint}{urlencode(asked)}"

    def finish(self, state: str, token: str) -> Launch:
        """The browser is back with the token of the attempt ``state``; it counts once.

        Raises:
            Unusable, NotNow: with what is wrong.
        """
        now = self._enrolment.now()
        rows = self._register.read("SELECT * FROM lti_attempts WHERE id = :id", id=state)
        if not rows or now - rows[0]["begun_at"] > _ATTEMPT_S:
            raise NotNow("This launch was begun too long ago, or not here: start it again from your course.")
        if rows[0]["launch"] is not None:
            raise NotNow("This launch was used already: start it again from your course.")
        platform = self.platform(rows[0]["issuer"], rows[0]["client"])
        launch = read_launch(token, self._key(platform, token, now), platform, rows[0]["nonce"], now)
        values = {"id": state, "launch": json.dumps(launch.record())}
        if not self._register.write(
            "UPDATE lti_attempts SET launch = :launch WHERE id = :id AND launch IS NULL", values
        ):
            raise NotNow("This launch was used already: start it again from your course.")
        return launch

    def _key(self, platform: Platform, token: str, now: float) -> Any:
        known = self._keys.get(platform.keys_url)
        if known is None or now - known.at > _KEYS_S:
            known = self._fetch_keys(platform, now)
        try:
            return key_of(token, known.by_id)
        except WrongKey:
            if now - known.at < _KEYS_AGAIN_S:
                raise
        return key_of(token, self._fetch_keys(platform, now).by_id)

    def _fetch_keys(self, platform: Platform, now: float) -> _Keys:
        try:
            found = jwt.PyJWKSet.from_dict(self._fetch(platform.keys_url))
        except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
            raise NotNow(
                "The platform does not publish keys that can be used: try again, or tell your operator."
            ) from error
        self._keys[platform.keys_url] = _Keys({key.key_id: key.key for key in found.keys if key.key_id}, now)
        return self._keys[platform.keys_url]

    # -- arriving ----------------------------------------------------------------

    def launched(self, state: str) -> Launch:
        """What came back in the attempt ``state``, until it has arrived.

        Raises:
            NotNow: it is over.
        """
        query = "SELECT launch, begun_at FROM lti_attempts WHERE id = :id AND arrived_at IS NULL AND launch IS NOT NULL"
        rows = self._register.read(query, id=state)
        if not rows or self._enrolment.now() - rows[0]["begun_at"] > _ATTEMPT_S:
            raise NotNow("This launch is over: start it again from your course.")
        found = json.loads(rows[0]["launch"])
        return Launch(**{**found, "role": Role(found["role"])})

    def account(self, launch: Launch) -> str | None:
        """The account here that the platform's subject is linked with."""
        query = "SELECT account FROM lti_people WHERE issuer = :issuer AND subject = :subject"
        rows = self._register.read(query, issuer=launch.issuer, subject=launch.subject)
        return str(rows[0]["account"]) if rows else None

    def course(self, launch: Launch) -> str | None:
        """The course here that the platform's course is connected with."""
        query = "SELECT course FROM lti_contexts WHERE issuer = :issuer AND client = :client AND context = :context"
        rows = self._register.read(query, issuer=launch.issuer, client=launch.client, context=launch.context)
        return str(rows[0]["course"]) if rows else None

    def check(self, launch: Launch, person: Person) -> None:
        """That this person can be who the platform sends.

        Raises:
            NotAllowed: the subject or the account is linked with another.
        """
        linked = self.account(launch)
        if linked is not None and linked != person.account:
            raise NotAllowed(
                f"On the learning platform you are linked with the account {linked} here, and you are logged in as"
                f" {person.account}. Log out of the hub and start again, or have your operator undo the link."
            )
        query = "SELECT subject FROM lti_people WHERE issuer = :issuer AND account = :account"
        rows = self._register.read(query, issuer=launch.issuer, account=person.account)
        if rows and rows[0]["subject"] != launch.subject:
            raise NotAllowed(
                "Your account here is linked with somebody else of that learning platform. If that is you as well, have"
                " your operator undo the link."
            )

    def arrive(self, state: str, person: Person, chosen: str = "") -> str:
        """Link, connect and enrol; gives the course.  Once for each attempt.

        Args:
            chosen: the course that an instructor connects the platform's course with, where it is not yet.
        """
        launch = self.launched(state)
        self.check(launch, person)
        course = self.course(launch) or self._connect(launch, person, chosen)
        if self._enrolment.left(course, person.account):
            raise NotAllowed("You were taken off the roster of this course: ask your instructor.")
        now = self._enrolment.now()
        try:
            with self._register.change() as connection:
                used = "UPDATE lti_attempts SET arrived_at = ? WHERE id = ? AND arrived_at IS NULL"
                if not connection.execute(used, (now, state)).rowcount:
                    raise NotNow("This launch was used already: start it again from your course.")
                link = "INSERT INTO lti_people VALUES (?, ?, ?, ?) ON CONFLICT (issuer, subject) DO NOTHING"
                connection.execute(link, (launch.issuer, launch.subject, person.account, now))
                expected = "DELETE FROM lti_expected WHERE course = ? AND issuer = ? AND subject = ?"
                connection.execute(expected, (course, launch.issuer, launch.subject))
                if launch.members_url:
                    address = "UPDATE lti_contexts SET members_url = ? WHERE issuer = ? AND client = ? AND context = ?"
                    connection.execute(address, (launch.members_url, launch.issuer, launch.client, launch.context))
        except sqlite3.IntegrityError:
            raise NotAllowed("Your account was linked with somebody else meanwhile: start again.") from None
        self._trail.note("lti-arrived", person.account, course, issuer=launch.issuer, subject=launch.subject)
        self._enrolment.put(course, [Entry(person.account, launch.name, launch.role)], "lti", person.account)
        return course

    def _connect(self, launch: Launch, person: Person, chosen: str) -> str:
        if launch.role is not Role.INSTRUCTOR:
            raise NotNow(
                f"The course {launch.context_title or launch.context} is not connected with one here yet: its"
                " instructor does that by opening this activity once."
            )
        if not chosen:
            raise Nothing("Choose the course first.")
        self._enrolment.enter(chosen, person, instructor=True)
        values = {"issuer": launch.issuer, "client": launch.client, "context": launch.context, "course": chosen}
        self._register.write("INSERT INTO lti_contexts VALUES (:issuer, :client, :context, :course, NULL)", values)
        self._trail.note("lti-connected", person.account, chosen, issuer=launch.issuer, context=launch.context)
        return chosen


def checked_url(url: str) -> str:
    """An address of a platform.

    Raises:
        Unusable: neither https nor on this machine.
    """
    found = urlsplit(url)
    local = found.hostname in {"127.0.0.1", "localhost", "::1"}
    if found.scheme != "https" and not (found.scheme == "http" and local):
        raise Unusable(f"{url[:100]!r} is no address that begins with https.")
    if not found.hostname or found.username or found.fragment:
        raise Unusable(f"{url[:100]!r} is no address of a platform.")
    return url
