"""The ticket in ``HF_ENDPOINT``: what it proves, and to whom."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edif_protocol.installation import Installation
from edif_protocol.mirror_ticket import endpoint, groups_of


@pytest.fixture
def here(tmp_path: Path) -> Installation:
    return Installation(home=tmp_path / "here")


def ticket(address: str) -> str:
    return address.rpartition("/~")[2]


def test_whoever_is_in_no_group_has_the_plain_address(here: Installation) -> None:
    assert endpoint(here, [], 100.0) == here.mirror_url


def test_the_mirror_is_where_the_gateway_is_reached(here: Installation) -> None:
    assert endpoint(here, [], 100.0, "https://traces.example.org") == "https://traces.example.org/hf"
    away = endpoint(here, ["lab"], 100.0, "https://traces.example.org")
    assert away.startswith("https://traces.example.org/hf/~")
    assert groups_of(here, ticket(away), 99.0) == {"lab"}


def test_a_ticket_ends(here: Installation) -> None:
    made = ticket(endpoint(here, ["lab"], 100.0))
    assert groups_of(here, made, 99.0) == {"lab"}
    assert groups_of(here, made, 100.0) == frozenset()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.frozensets(st.text(min_size=1), min_size=1), st.data())
def test_a_ticket_proves_just_its_groups_and_any_change_proves_nothing(
    here: Installation, groups: frozenset[str], data: st.DataObject
) -> None:
    made = ticket(endpoint(here, groups, 100.0))
    assert groups_of(here, made, 0.0) == groups
    assert "/" not in made
    place = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.characters().filter(lambda letter: letter != made[place]))
    assert groups_of(here, made[:place] + other + made[place + 1 :], 0.0) == frozenset()


def test_another_installations_ticket_proves_nothing(here: Installation, tmp_path: Path) -> None:
    assert groups_of(Installation(home=tmp_path / "there"), ticket(endpoint(here, ["lab"], 100.0)), 0.0) == frozenset()
