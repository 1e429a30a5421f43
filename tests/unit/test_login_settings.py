"""Settings of a university login that would let nobody in, or the wrong people, are refused with a sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edif_hub.errors import LoginRefused
from edif_hub.login import client_secret
from edif_hub.login_settings import Issuer, LoginSettings
from edif_hub.settings import HubSettings
from edif_protocol.installation import Installation

ONE: dict[str, Any] = {
    "id": "a",
    "title": "A",
    "issuer": "https://a.example",
    "client_id": "edif",
    "allow_everyone": True,
}
TWO = {**ONE, "id": "b", "issuer": "https://b.example", "group_prefix": "b", "affiliation_domains": ["b.example"]}


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"allow_everyone": False}, "nobody could log in"),
        ({"issuer": "http://a.example"}, "https"),
        ({"scopes": ["profile"]}, "openid"),
        ({"id": "../x"}, "pattern"),
        ({"allow_everybody": True}, "Extra inputs"),
    ],
)
def test_an_issuer_that_cannot_be_meant(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Issuer(**{**ONE, **wrong})


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ({}, "group_prefix"),
        ({"group_prefix": "a"}, "affiliation_domains of the issuer a"),
        ({"group_prefix": "b", "affiliation_domains": ["*"]}, "group_prefix"),
        ({"id": "b"}, "two issuers have the id b"),
        ({"issuer": "https://b.example"}, "two issuers have the issuer"),
    ],
)
def test_two_issuers_must_be_kept_apart(first: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        LoginSettings(issuers=[{**ONE, **first}, TWO])


def test_two_that_are_apart() -> None:
    first = {**ONE, "group_prefix": "a", "affiliation_domains": ["*"]}
    assert [each.id for each in LoginSettings(issuers=[first, TWO]).issuers] == ["a", "b"]


def test_secrets_do_not_show() -> None:
    said = Issuer(**ONE, client_secret="made-up")
    assert "made-up" not in repr(said) + said.model_dump_json()


def test_the_public_address_is_one() -> None:
    with pytest.raises(ValidationError, match="public_url"):
        HubSettings(public_url="edif.example.org")


@pytest.mark.parametrize("address", ["traces.example.org", "https://edif.example.org/traces"])
def test_the_address_for_traces_is_a_name_of_its_own(address: str) -> None:
    with pytest.raises(ValidationError, match="traces_url"):
        HubSettings(traces_url=address)


def test_clients_are_told_the_address_by_which_they_can_come(tmp_path: Path) -> None:
    place = Installation(home=tmp_path)
    here, public = place.url("gateway"), "https://traces.example.org"
    assert HubSettings().clients_reach(place) == here
    named = HubSettings(traces_url=f"{public}/")
    assert named.clients_reach(place) == named.clients_reach(place, "traces.example.org") == public
    for host in ("127.0.0.1:8001", "evil.example.org", ""):
        assert named.clients_reach(place, host) == here


def test_a_secret_is_read_from_a_file_of_its_owner_alone(tmp_path: Path) -> None:
    place, one = Installation(home=tmp_path), Issuer(**ONE)
    with pytest.raises(LoginRefused, match="login-a"):
        client_secret(place, one)
    path = tmp_path / "secrets" / "login-a"
    path.parent.mkdir()
    path.write_text("made-up\n")
    path.chmod(0o640)
    with pytest.raises(LoginRefused, match="chmod 600"):
        client_secret(place, one)
    path.chmod(0o600)
    assert client_secret(place, one) == "made-up"
    assert client_secret(place, Issuer(**ONE, client_secret="")) == ""


def test_a_secret_in_a_file_that_others_read_is_refused(tmp_path: Path) -> None:
    place = Installation(home=tmp_path)
    place.config_file.write_text("")
    place.config_file.chmod(0o644)
    with pytest.raises(LoginRefused, match="chmod 600"):
        client_secret(place, Issuer(**ONE, client_secret="made-up"))
