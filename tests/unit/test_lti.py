"""LTI launches: only a whole, fresh, fitting token counts, once; one identity a person; names and roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.lti_platform import DEPLOYMENT, MEMBERSHIP, LearningPlatform

from edif_courses.desk import Desk, open_desk
from edif_courses.errors import CourseError, NotAllowed, Nothing, NotNow, Unusable
from edif_courses.lti_launch import LtiLaunch
from edif_courses.names_roles import NamesRoles, new_key, published
from edif_courses.records import Person, Role
from edif_courses.roster_file import Entry
from edif_courses.settings import CourseSettings
from edif_protocol.installation import Installation

OPERATOR, PROF, ADA, EVE = Person("admin", operator=True), Person("prof"), Person("ada"), Person("eve")
_LTI = "https://purl.imsglobal.org/spec/lti/claim/"


@pytest.fixture(scope="module")
def moodle() -> LearningPlatform:
    return LearningPlatform()


@pytest.fixture
def now() -> list[float]:
    return [1_800_000_000.0]


@pytest.fixture
def desk(tmp_path: Path, now: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("EDIF_HOME", str(tmp_path))
    made = open_desk(Installation(home=tmp_path), CourseSettings(), lambda: now[0])
    made.enrolment.create(OPERATOR, "ling", "Linguistics", now[0] - 10, now[0] + 10_000_000)
    made.enrolment.put("ling", [Entry("prof", "", Role.INSTRUCTOR)], "csv", "admin")
    yield made
    made.close()


@pytest.fixture
def lti(desk: Desk, moodle: LearningPlatform) -> LtiLaunch:
    made = LtiLaunch(
        desk.register,
        desk.enrolment,
        desk.trail,
        "https://edif.example/launch",
        lambda url: moodle.answer("/keys", {})[0],
    )
    made.register_platform(moodle.platform)
    return made


@pytest.fixture
def launch(lti: LtiLaunch, moodle: LearningPlatform, now: list[float]) -> Callable[..., str]:
    """Begins a launch, changes the right token as told, finishes; gives the attempt."""

    def through(change: Callable[[dict[str, Any]], object] = lambda claims: None, **who: Any) -> str:
        state, address = lti.begin(moodle.issuer, "", "hint", "more")
        claims = moodle.claims(parse_qs(urlsplit(address).query)["nonce"][0], now=now[0], **who)
        change(claims)
        lti.finish(state, moodle.sign(claims))
        return state

    return through


def test_a_launch_asks_the_platform_as_lti_says(lti: LtiLaunch, moodle: LearningPlatform) -> None:
    state, address = lti.begin(moodle.issuer, "tool-1", "hint", "more")
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert address.startswith(f"{moodle.issuer}/auth?")
    assert asked["state"] == state
    assert asked["redirect_uri"] == "https://edif.example/launch"
    assert (asked["response_type"], asked["response_mode"], asked["prompt"]) == ("id_token", "form_post", "none")
    assert (asked["login_hint"], asked["lti_message_hint"]) == ("hint", "more")
    for issuer, client in (("https://other.example", ""), (moodle.issuer, "other")):
        with pytest.raises(Unusable, match="may not launch"):
            lti.begin(issuer, client, "hint", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another"},
        {"aud": ["tool-1", "another"]},
        {"iss": "https://other.example"},
        {"exp": 1_799_999_000},
        {"iat": 1_799_990_000},
        {"iat": 1_800_009_000},
        {"iat": "now"},
        {"exp": True},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 300},
        {f"{_LTI}version": "1.1"},
        {f"{_LTI}message_type": "LtiDeepLinkingRequest"},
        {f"{_LTI}deployment_id": "9"},
        {f"{_LTI}deployment_id": f"{DEPLOYMENT} 8"},
        {f"{_LTI}context": None},
        {f"{_LTI}context": {"title": "no id"}},
        {f"{_LTI}roles": "Instructor"},
    ],
)
def test_what_is_wrong_in_a_token_refuses_it(launch: Callable[..., str], wrong: dict[str, Any]) -> None:
    def change(claims: dict[str, Any]) -> None:
        claims.update(wrong)
        for name in [name for name, value in wrong.items() if value is None]:
            del claims[name]

    with pytest.raises(Unusable):
        launch(change)


def test_tokens_of_other_keys_and_kinds_are_refused(lti: LtiLaunch, moodle: LearningPlatform, now: list[float]) -> None:
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def forged() -> Iterator[str]:
        state, address = lti.begin(moodle.issuer, "", "hint", "")
        claims = moodle.claims(parse_qs(urlsplit(address).query)["nonce"][0], now=now[0])
        good = moodle.sign(claims)
        head, _, signature = good.split(".")
        for token in (
            jwt.encode(claims, stranger, "RS256", {"kid": moodle.key_id}),
            jwt.encode(claims, stranger, "RS256", {"kid": "unknown"}),
            jwt.encode(claims, stranger, "RS512", {"kid": moodle.key_id}),
            jwt.encode(claims, "x" * 64, "HS256", {"kid": moodle.key_id}),
            jwt.encode(claims, None, "none", {"kid": moodle.key_id}),
            f"{head}.{jwt.encode({**claims, 'sub': 'u2'}, stranger, 'RS256').split('.')[1]}.{signature}",
            "",
            "a.b.c",
            "x" * 40_000,
        ):
            with pytest.raises(Unusable):
                lti.finish(state, token)
            yield token
        lti.finish(state, good)  # nothing of that has used the attempt up

    assert len(list(forged())) == 9


def test_an_attempt_counts_once_and_not_for_long(
    lti: LtiLaunch, moodle: LearningPlatform, launch: Callable[..., str], now: list[float]
) -> None:
    state = launch()
    with pytest.raises(NotNow, match="used already"):
        lti.finish(state, "any")
    with pytest.raises(NotNow, match="too long ago"):
        lti.finish("0" * 32, "any")
    old, _ = lti.begin(moodle.issuer, "", "hint", "")
    now[0] += 700
    with pytest.raises(NotNow, match="too long ago"):
        lti.finish(old, "any")
    with pytest.raises(NotNow, match="is over"):
        lti.launched(state)


def test_changed_keys_of_a_platform_are_fetched_again(
    lti: LtiLaunch, moodle: LearningPlatform, launch: Callable[..., str], now: list[float]
) -> None:
    launch()
    asked = len(moodle.asked)
    launch()
    assert len(moodle.asked) == asked  # known for a while
    moodle.key_id = "k2"
    with pytest.raises(Unusable, match="does not publish"):
        launch()  # a flood of unknown keys asks the platform twice a minute at most
    now[0] += 60
    launch()
    moodle.key_id = "k1"
    now[0] += 60


def test_instructors_connect_students_follow(lti: LtiLaunch, desk: Desk, launch: Callable[..., str]) -> None:
    with pytest.raises(NotNow, match="not connected"):
        lti.arrive(launch(), ADA)
    with pytest.raises(Nothing):  # a course of somebody else
        lti.arrive(launch(subject="t2", role="Instructor"), EVE, "ling")
    with pytest.raises(Nothing, match="Choose"):
        lti.arrive(launch(subject="t1", role="Instructor"), PROF)
    assert lti.arrive(launch(subject="t1", role="Instructor"), PROF, "ling") == "ling"
    assert lti.arrive(launch(), ADA) == "ling"
    member = {m.account: m for m in desk.enrolment.members("ling")}["ada"]
    assert (member.role, member.name, member.source) == (Role.STUDENT, "Person u1", "lti")
    noted = [line["act"].removeprefix("course.") for line in desk.trail.lines("ling")]
    assert noted[-5:] == ["lti-connected", "lti-arrived", "roster", "lti-arrived", "roster"]


def test_everybody_is_one_person(lti: LtiLaunch, desk: Desk, launch: Callable[..., str]) -> None:
    lti.arrive(launch(subject="t1", role="Instructor"), PROF, "ling")
    first = launch()
    lti.arrive(first, ADA)
    with pytest.raises(NotNow, match="over"):
        lti.arrive(first, ADA)
    with pytest.raises(NotAllowed, match="linked with the account ada"):
        lti.arrive(launch(), EVE)
    with pytest.raises(NotAllowed, match="somebody else of that"):
        lti.arrive(launch(subject="u2"), ADA)
    desk.enrolment.remove("ling", "ada", PROF)
    with pytest.raises(NotAllowed, match="taken off"):
        lti.arrive(launch(), ADA)
    assert desk.enrolment.role("ling", ADA) is None


@pytest.mark.parametrize("role", ["Administrator", "Mentor", "Instructor ", "instructor"])
def test_no_other_role_is_an_instructor(lti: LtiLaunch, launch: Callable[..., str], role: str) -> None:
    assert lti.launched(launch(role=role)).role is Role.STUDENT


@pytest.mark.parametrize(
    "url", ["http://moodle.example/x", "ftp://127.0.0.1", "https://a:b@moodle.example", "x", "https://"]
)
def test_platforms_have_safe_addresses(lti: LtiLaunch, moodle: LearningPlatform, url: str) -> None:
    found = moodle.platform
    for field in ("issuer", "auth_url", "token_url", "keys_url"):
        with pytest.raises(Unusable):
            lti.register_platform(type(found)(**{**{n: getattr(found, n) for n in found.__slots__}, field: url}))


def _names_roles(desk: Desk, moodle: LearningPlatform, seen: list[httpx.Request], key: str) -> NamesRoles:
    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        content, headers = moodle.answer(request.url.path, parse_qs(request.url.query.decode()))
        return httpx.Response(200, json=content, headers=headers)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    return NamesRoles(desk.register, desk.enrolment, desk.trail, client, lambda: key)


def _member(subject: Any, role: str = "Learner", **more: Any) -> dict[str, Any]:
    return {"user_id": subject, "name": f"N {subject}", "roles": [f"{MEMBERSHIP}{role}"], **more}


def test_names_and_roles_fill_the_roster(
    lti: LtiLaunch, desk: Desk, moodle: LearningPlatform, launch: Callable[..., str]
) -> None:
    lti.arrive(launch(subject="t1", role="Instructor"), PROF, "ling")
    lti.arrive(launch(), ADA)
    seen: list[httpx.Request] = []
    key = new_key()
    people = _names_roles(desk, moodle, seen, key)
    moodle.members = [
        [_member("u1", name="Ada L"), _member("u7"), _member("u8", status="Inactive"), _member(9), "x"],
        [_member("u9", "Instructor")],
    ]
    change, waiting = people.take(PROF, "ling")
    assert (change.added, change.changed, change.removed) == ([], ["ada"], [])
    assert waiting == 2
    assert people.expected("ling") == [("N u7", "student"), ("N u9", "instructor")]
    sent = parse_qs(seen[0].content.decode())
    checked = jwt.decode(
        sent["client_assertion"][0],
        jwt.PyJWKSet.from_dict(published(key)).keys[0].key,
        ["RS256"],
        audience=f"{moodle.issuer}/token",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert checked["sub"] == "tool-1"
    lti.arrive(launch(subject="u7"), Person("bob"))
    assert people.expected("ling") == [("N u9", "instructor")]


def test_a_roster_elsewhere_is_not_asked(
    lti: LtiLaunch, desk: Desk, moodle: LearningPlatform, launch: Callable[..., str]
) -> None:
    def elsewhere(claims: dict[str, Any]) -> None:
        service = claims["https://purl.imsglobal.org/spec/lti-nrps/claim/namesroleservice"]
        service["context_memberships_url"] = "http://169.254.169.254/latest"

    lti.arrive(launch(elsewhere, subject="t1", role="Instructor"), PROF, "ling")
    seen: list[httpx.Request] = []
    with pytest.raises(CourseError, match="another address"):
        _names_roles(desk, moodle, seen, new_key()).take(PROF, "ling")
    assert seen == []
