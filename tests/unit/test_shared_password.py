"""The shared password cannot be guessed by trying."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tornado import web

from edif_hub.shared_password import EdifPassword

RIGHT = {"username": "anna", "password": "the right one"}


def handler(address: str) -> SimpleNamespace:
    headers: dict[str, str] = {}
    return SimpleNamespace(request=SimpleNamespace(remote_ip=address), headers=headers, set_header=headers.__setitem__)


async def test_after_some_wrong_ones_the_right_one_is_not_looked_at() -> None:
    login = EdifPassword(user_password="the right one", attempts_limit=3)
    assert await login.authenticate(handler("a"), RIGHT)
    for number in range(3):
        assert await login.authenticate(handler("a"), {"username": f"x{number}", "password": "wrong"}) is None
    asked = handler("a")
    with pytest.raises(web.HTTPError) as refused:
        await login.authenticate(asked, RIGHT)
    assert refused.value.status_code == 429
    assert 0 < int(asked.headers["Retry-After"]) <= 60
    assert await login.authenticate(handler("b"), RIGHT)


async def test_one_name_is_not_guessed_from_many_addresses() -> None:
    login = EdifPassword(user_password="the right one", attempts_limit=3)
    for number in range(3):
        assert await login.authenticate(handler(str(number)), {"username": "anna", "password": "wrong"}) is None
    with pytest.raises(web.HTTPError):
        await login.authenticate(handler("new"), RIGHT)
