"""How long somebody stays in whom the provider does not confirm, and that one question is asked at a time."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from edif_hub import university
from edif_hub.account_names import account_name
from edif_hub.login_settings import DAY_S, Issuer, LoginSettings
from edif_hub.university import EdifAuthenticator, Site
from edif_hub.vouching import Standing, Word

ISSUER = Issuer(id="uni", title="Uni", issuer="https://idp.uni.example", client_id="edif", allow_everyone=True)
PERSON = account_name(b"k", ISSUER.issuer, "anna")
BY_KEY, BY_COOKIE = SimpleNamespace(_token_authenticated=True), SimpleNamespace(_token_authenticated=False)


class Account:
    """As much of a JupyterHub user as logins touch."""

    def __init__(self, name: str = PERSON, state: dict[str, Any] | None = None) -> None:
        self.name, self.state, self.admin, self.user_info = name, state, False, {}
        self.groups = [SimpleNamespace(name="course:ml:student"), SimpleNamespace(name="aff:student@uni.example")]
        self.db = SimpleNamespace(commit=lambda: None)
        self.spawners: dict[str, Any] = {}

    async def get_auth_state(self) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return self.state

    async def save_auth_state(self, state: dict[str, Any] | None) -> None:
        self.state = state

    def sync_groups(self, names: list[str]) -> None:
        self.groups = [SimpleNamespace(name=name) for name in names]


class World:
    """An authenticator whose provider says what a test wants, at a time that it sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.asked, self.ended = 1_000_000.0, 0, []
        self.word = Word.CONFIRMED
        settings = LoginSettings(issuers=(ISSUER,), outage_s=DAY_S, session_s=3600, keys_without_login_days=30)
        site = Site(settings, "https://edif.example", b"k", {"uni": ""})
        self.authenticator = EdifAuthenticator(site=site, log=logging.getLogger("test"))
        monkeypatch.setattr(university, "time", SimpleNamespace(time=lambda: self.now))
        monkeypatch.setattr(university, "ask_again", self.ask_again)
        monkeypatch.setattr(university, "end_sessions", lambda user: self.ended.append("sessions"))
        monkeypatch.setattr(university, "end_keys", lambda user: self.ended.append("keys") or 2)

    async def ask_again(self, provider: Any, standing: Standing, *_: Any) -> tuple[Word, Standing, str]:
        self.asked += 1
        await asyncio.sleep(0)
        confirmed = {"confirmed_at": self.now} if self.word is Word.CONFIRMED else {}
        return self.word, standing.model_copy(update=confirmed), "because"

    def account(self) -> Account:
        standing = Standing(
            issuer_id="uni",
            issuer=ISSUER.issuer,
            subject="anna",
            id_claims={},
            claims={"name": "Anna", "eduperson_scoped_affiliation": "staff@uni.example"},
            access_token="a",
            access_ends_at=0,
            refresh_token="r",
            offline=True,
            id_token=None,
            login_at=self.now,
            confirmed_at=self.now,
        )
        return Account(state=standing.model_dump())

    async def both(self, account: Account) -> tuple[bool, bool]:
        """Whether a browser stays in, and whether a key is good."""
        return (
            await self.authenticator.refresh_user(account, BY_COOKIE),
            await self.authenticator.refresh_user(account, BY_KEY),
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


async def test_a_confirmed_person_has_todays_name_and_groups(world: World) -> None:
    account = world.account()
    assert await world.both(account) == (True, True)
    assert account.user_info["display_name"] == "Anna"
    assert {group.name for group in account.groups} == {"course:ml:student", "aff:staff@uni.example"}


async def test_an_outage_is_bounded_and_takes_nothing_away(world: World) -> None:
    account = world.account()
    world.word = Word.UNHEARD
    world.now += DAY_S - 1
    assert await world.both(account) == (True, True)
    world.now += 2
    assert await world.both(account) == (False, False)
    assert world.ended == []
    world.word = Word.CONFIRMED
    assert await world.both(account) == (True, True)


async def test_who_is_gone_loses_everything_but_courses(world: World) -> None:
    account = world.account()
    account.admin, world.word = True, Word.GONE
    assert await world.both(account) == (False, False)
    assert world.ended == ["sessions", "keys"]
    assert (account.admin, account.state) == (False, None)
    assert [group.name for group in account.groups] == ["course:ml:student"]


async def test_nobody_to_ask_ends_the_session_once_and_keys_later(world: World) -> None:
    account = world.account()
    world.word = Word.UNASKABLE
    assert await world.both(account) == (True, True)
    world.now += 3601
    assert await world.both(account) == (False, True)
    assert world.ended == ["sessions"]
    world.now += 30 * DAY_S
    assert await world.both(account) == (False, False)
    assert world.ended == ["sessions", "sessions", "keys"]


async def test_keys_end_without_a_login_even_of_somebody_who_is_still_there(world: World) -> None:
    account = world.account()
    world.now += 30 * DAY_S - 1
    assert await world.both(account) == (True, True)
    world.now += 1
    assert await world.both(account) == (False, False)
    assert "keys" in world.ended


async def test_requests_that_come_together_ask_once(world: World) -> None:
    account = world.account()
    looks = await asyncio.gather(*(world.authenticator.refresh_user(account, BY_KEY) for _ in range(10)))
    assert (all(looks), world.asked) == (True, 1)


async def test_rooms_and_services_have_no_provider(world: World) -> None:
    assert await world.both(Account("room-ml")) == (True, True)
    assert await world.both(Account(PERSON)) == (False, False)


async def test_a_login_service_that_was_taken_out_vouches_for_nobody(world: World) -> None:
    account = world.account()
    assert account.state is not None
    account.state["issuer"] = "https://other.example"
    assert await world.both(account) == (False, False)
    assert "keys" in world.ended
