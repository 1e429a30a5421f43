"""What is believed of what a provider sends: nothing that somebody else could have made, and no word in an outage."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from edif_hub.errors import LoginStale, ProviderSilent, TokenRefused
from edif_hub.login_settings import Issuer
from edif_hub.provider import Provider
from edif_hub.vouching import Standing, Word, ask_again

ISSUER = "https://idp.uni.example"
KEY, STRANGER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def public(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


class Fake:
    """A provider whose answers a test sets, and what it was asked."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.asked: list[httpx.Request] = []
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            **{
                f"{name}_endpoint": f"{ISSUER}/{name}" for name in ("authorization", "token", "userinfo", "end_session")
            },
            "jwks_uri": f"{ISSUER}/keys",
        }
        self.keys = [public(KEY, "1")]
        self.claims: dict[str, Any] = {"sub": "anna", "groups": ["lab"]}
        self.answers: dict[str, httpx.Response | httpx.HTTPError] = {}
        self.tokens: dict[str, Any] = {}
        issuer = Issuer(id="uni", title="Uni", issuer=ISSUER, client_id="edif", allowed_groups=["lab"])
        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        self.provider = Provider(issuer, "made-up", client, lambda: self.now)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path
        if path in self.answers:
            told = self.answers[path]
            if isinstance(told, httpx.HTTPError):
                raise told
            return told
        said: dict[str, Any] = {
            "/.well-known/openid-configuration": self.metadata,
            "/keys": {"keys": self.keys},
            "/userinfo": self.claims,
            "/token": {"access_token": "a", "expires_in": 60, "refresh_token": "r2", **self.tokens},
        }
        return httpx.Response(200, json=said[path])

    def token(self, key: Any = KEY, header: dict[str, Any] | None = None, **claims: Any) -> str:
        now = datetime.now(UTC).timestamp()
        told = {"iss": ISSUER, "aud": "edif", "sub": "anna", "nonce": "n", "iat": now, "exp": now + 60, **claims}
        left = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(left, key, algorithm="ES256", headers={"kid": "1", **(header or {})})

    def standing(self, **other: Any) -> Standing:
        known: dict[str, Any] = {
            "issuer_id": "uni",
            "issuer": ISSUER,
            "subject": "anna",
            "id_claims": {},
            "claims": {"groups": ["lab"]},
            "access_token": "a0",
            "access_ends_at": self.now + 60,
            "refresh_token": "r1",
            "offline": True,
            "id_token": None,
            "login_at": self.now,
            "confirmed_at": self.now,
        }
        return Standing(**{**known, **other})

    async def ask(self, **other: Any) -> tuple[Word, Standing, str]:
        return await ask_again(self.provider, self.standing(**other), "help@uni.example", lambda: self.now)


async def test_a_token_of_the_provider_is_believed() -> None:
    fake = Fake()
    assert (await fake.provider.verified(fake.token(), nonce="n"))["sub"] == "anna"


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"aud": ["edif", "another"], "azp": "another"},
        {"nonce": "of another login"},
        {"nonce": None},
        {"exp": 1_000_000},
        {"exp": None},
        {"iat": None},
        {"sub": None},
        {"sub": ""},
        {"nbf": 9_000_000_000},
    ],
)
async def test_a_token_that_is_not_for_this_login_is_refused(wrong: dict[str, Any]) -> None:
    fake = Fake()
    with pytest.raises(TokenRefused):
        await fake.provider.verified(fake.token(**wrong), nonce="n")


async def test_a_token_of_somebody_else_is_refused() -> None:
    fake = Fake()
    unsigned = jwt.encode({"iss": ISSUER, "aud": "edif", "sub": "anna", "exp": 9e9, "iat": 1}, None, algorithm="none")
    shared = jwt.encode(
        {"iss": ISSUER, "aud": "edif", "sub": "anna", "exp": 9e9, "iat": 1}, "k" * 32, algorithm="HS256"
    )
    good = fake.token()
    for forged in (fake.token(STRANGER), unsigned, shared, good[:-4] + "AAAA", "x", "x.y.z", ""):
        with pytest.raises(TokenRefused):
            await fake.provider.verified(forged)


async def test_a_new_key_is_fetched_and_an_unknown_one_not_for_every_token() -> None:
    fake = Fake()
    await fake.provider.verified(fake.token())
    fake.keys = [public(STRANGER, "2")]
    fake.now += 31
    assert await fake.provider.verified(fake.token(STRANGER, {"kid": "2"}))
    before = len(fake.asked)
    for _ in range(5):
        with pytest.raises(TokenRefused):
            await fake.provider.verified(fake.token(STRANGER, {"kid": "unknown"}))
    assert len(fake.asked) == before


async def test_the_discovery_document_is_kept_and_must_be_the_issuers() -> None:
    fake = Fake()
    await fake.provider.metadata()
    await fake.provider.metadata()
    assert len(fake.asked) == 1
    fake.metadata = {**fake.metadata, "issuer": "https://evil.example"}
    fake.now += 3601
    with pytest.raises(ProviderSilent):
        await fake.provider.metadata()
    assert (await fake.provider.known_metadata())["issuer"] == ISSUER


async def test_a_login_asks_with_a_challenge_and_for_what_the_provider_knows() -> None:
    fake = Fake()
    fake.metadata["scopes_supported"] = ["openid", "profile"]
    asked = parse_qs(urlsplit(await fake.provider.login_address("https://hub/cb", "s", "n", "v")).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["scope"] == ["openid profile email"]
    assert "v" not in asked["code_challenge"]


async def test_logging_in_as_somebody_else_asks_for_the_form() -> None:
    fake = Fake()
    asked = parse_qs(urlsplit(await fake.provider.login_address("https://hub/cb", "s", "n", "v", again=True)).query)
    assert asked["prompt"] == ["login"]


async def test_a_code_without_id_token_or_worth_nothing() -> None:
    fake = Fake()
    with pytest.raises(TokenRefused, match="id_token"):
        await fake.provider.buy("c", "v", "https://hub/cb", "n")
    fake.answers["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    with pytest.raises(LoginStale):
        await fake.provider.buy("c", "v", "https://hub/cb", "n")


async def test_somebody_who_is_still_there() -> None:
    fake = Fake()
    fake.now += 100
    word, standing, _ = await fake.ask()
    assert (word, standing.refresh_token, standing.confirmed_at) == (Word.CONFIRMED, "r2", fake.now)


async def test_somebody_who_was_taken_out_of_the_group() -> None:
    fake = Fake()
    fake.claims = {"sub": "anna"}  # the claim is gone altogether; what it said before does not count
    word, _, why = await fake.ask()
    assert word is Word.GONE
    assert "lab" in why


async def test_a_refused_token_that_outlives_sessions_means_gone_and_another_does_not() -> None:
    fake = Fake()
    fake.answers["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    assert (await fake.ask())[0] is Word.GONE
    word, standing, _ = await fake.ask(offline=False)
    assert (word, standing.refresh_token) == (Word.UNASKABLE, None)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("down"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503),
        httpx.Response(200, text="<html>maintenance</html>"),
        httpx.Response(401, json={"error": "invalid_client"}),
        httpx.Response(400, json={"error": "unauthorized_client"}),
        httpx.Response(302, headers={"location": "https://evil.example"}),
    ],
)
async def test_a_provider_that_is_down_or_misconfigured_says_nothing_of_anybody(answer: Any) -> None:
    fake = Fake()
    fake.answers["/token"] = answer
    word, standing, _ = await fake.ask()
    assert (word, standing.confirmed_at) == (Word.UNHEARD, 1_000_000)


async def test_a_new_refresh_token_is_kept_when_the_next_question_fails() -> None:
    fake = Fake()
    fake.answers["/userinfo"] = httpx.Response(503)
    word, standing, _ = await fake.ask()
    assert (word, standing.refresh_token) == (Word.UNHEARD, "r2")


async def test_an_answer_about_somebody_else_counts_as_none() -> None:
    fake = Fake()
    fake.claims = {"sub": "berta", "groups": ["lab"]}
    assert (await fake.ask())[0] is Word.UNHEARD


async def test_without_any_token_there_is_nothing_to_ask_with() -> None:
    fake = Fake()
    word, _, _ = await fake.ask(refresh_token=None, access_ends_at=fake.now - 1)
    assert word is Word.UNASKABLE
    assert not fake.asked


@pytest.mark.parametrize(("offline", "kept"), [(True, "r1"), (False, None)])
def test_after_logging_out_there_only_a_lasting_token_is_of_use(offline: bool, kept: str | None) -> None:
    assert Fake().standing(offline=offline).logged_out().refresh_token == kept
