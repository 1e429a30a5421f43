"""The shared password is offered on this machine only, and account names are safe folder names."""

from __future__ import annotations

import re

import pytest

from edif_hub.login import USERNAME_PATTERN, LoginRefused, require_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    require_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "lab.example.org", ""])  # noqa: S104 (refused)
def test_other_addresses_are_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(LoginRefused, match=r"EDIF_HOST=127\.0\.0\.1"):
        require_loopback(host)


@pytest.mark.parametrize("name", ["anna", "a.b-c_d", "0815", "x" * 32])
def test_account_names(name: str) -> None:
    assert re.match(USERNAME_PATTERN, name)


@pytest.mark.parametrize("name", ["", ".", "..", ".ssh", "a/b", "a\n", "../x", "Ä", "a b", "x" * 33])
def test_names_that_would_leave_the_folder(name: str) -> None:
    assert not re.match(USERNAME_PATTERN, name)
