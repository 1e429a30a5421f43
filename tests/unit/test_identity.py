"""Who holds a key: the hub is asked once, believed for a while, and an outage does not lock people out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from edif_backend.errors import KeyRefused, NotServing
from edif_backend.gateway.identity import Identity

KEY = "k" * 32
ADA = {"name": "ada", "groups": ["course:ml:student"], "admin": False, "scopes": ["custom:edif:trace"]}


class Hub:
    """A hub that answers what a test tells it to, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: Callable[[], httpx.Response] = lambda: httpx.Response(200, json=ADA)
        self.time = 0.0
        transport = httpx.MockTransport(self._respond)
        self.identity = Identity(
            httpx.AsyncClient(transport=transport),
            "http://hub",
            answer_s=30,
            refusal_s=5,
            outage_s=600,
            mend="Get a new one.",
            clock=lambda: self.time,
        )

    async def _respond(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        assert request.headers["authorization"].startswith("token ")
        await asyncio.sleep(0)
        return self.answer()


async def test_a_good_key_names_its_user_and_is_asked_about_once_in_a_while() -> None:
    hub = Hub()
    users = await asyncio.gather(*(hub.identity.user(KEY) for _ in range(20)))
    assert {user.name for user in users} == {"ada"}
    assert users[0].groups == {"course:ml:student"}
    assert hub.asked == 1
    hub.time += 31
    await hub.identity.user(KEY)
    assert hub.asked == 2


async def test_the_name_of_a_person_is_shown_and_the_account_counts() -> None:
    hub = Hub()
    assert (await hub.identity.user(KEY)).shown == "ada"
    hub.answer = lambda: httpx.Response(200, json={**ADA, "user_info": {"display_name": "Ada Lovelace"}})
    hub.time += 31
    user = await hub.identity.user(KEY)
    assert (user.name, user.shown) == ("ada", "Ada Lovelace")


@pytest.mark.parametrize("key", [None, "", "short", "x" * 65, "naïve-key-naïve", "line\nbreak" * 2])
async def test_what_cannot_be_a_key_is_refused_without_asking(key: str | None) -> None:
    hub = Hub()
    with pytest.raises(KeyRefused, match=r"Get a new one\."):
        await hub.identity.user(key)
    assert hub.asked == 0


async def test_a_no_is_believed_shortly_and_then_asked_again() -> None:
    hub = Hub()
    hub.answer = lambda: httpx.Response(403, json={})
    for _ in range(3):
        with pytest.raises(KeyRefused):
            await hub.identity.user(KEY)
    assert hub.asked == 1
    hub.answer = lambda: httpx.Response(200, json=ADA)
    hub.time += 6
    assert (await hub.identity.user(KEY)).name == "ada"


async def test_a_key_without_the_right_to_trace_is_refused() -> None:
    hub = Hub()
    hub.answer = lambda: httpx.Response(200, json={**ADA, "scopes": ["access:servers"]})
    with pytest.raises(KeyRefused):
        await hub.identity.user(KEY)


async def test_a_hub_outage_keeps_known_keys_working_for_a_bounded_time() -> None:
    hub = Hub()
    await hub.identity.user(KEY)
    hub.answer = lambda: httpx.Response(503)
    hub.time += 500
    assert (await hub.identity.user(KEY)).name == "ada"
    hub.time += 200
    with pytest.raises(NotServing):
        await hub.identity.user(KEY)
    with pytest.raises(NotServing):
        await hub.identity.user("unknown-key")


async def test_a_revoked_key_is_never_taken_again_even_when_the_hub_goes_down() -> None:
    hub = Hub()
    await hub.identity.user(KEY)
    hub.answer = lambda: httpx.Response(403, json={})
    hub.time += 31
    with pytest.raises(KeyRefused):
        await hub.identity.user(KEY)
    hub.answer = lambda: httpx.Response(503)
    hub.time += 6
    with pytest.raises((KeyRefused, NotServing)):
        await hub.identity.user(KEY)
