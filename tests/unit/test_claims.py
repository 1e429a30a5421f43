"""What claims come to: the name shown, groups of the hub, let in or not, and an account of one's own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edif_hub.account_names import account_name, is_account_of_person
from edif_hub.claims import admit, hub_groups, is_admin, is_claimed, shown_name
from edif_hub.errors import NotAdmitted
from edif_hub.login_settings import Issuer

KEY = b"k" * 32


def issuer(**said: Any) -> Issuer:
    rules = {"allow_everyone": True} if not any(name.startswith(("allow", "admin")) for name in said) else {}
    return Issuer(id="uni", title="Uni", issuer="https://idp.uni.example", client_id="edif", **rules, **said)


def refusal(claims: dict[str, Any], **rules: Any) -> str:
    with pytest.raises(NotAdmitted) as refused:
        admit(claims, issuer(**rules), "help@uni.example")
    return str(refused.value)


@given(st.text(), st.text(), st.text(), st.text())
def test_two_people_never_share_an_account(issuer_a: str, subject_a: str, issuer_b: str, subject_b: str) -> None:
    a, b = account_name(KEY, issuer_a, subject_a), account_name(KEY, issuer_b, subject_b)
    assert (a == b) == ((issuer_a, subject_a) == (issuer_b, subject_b))
    assert is_account_of_person(a)


def test_an_account_needs_the_key_to_be_told_and_stays_the_same() -> None:
    assert account_name(KEY, "https://a.example", "anna") == account_name(KEY, "https://a.example", "anna")
    assert account_name(KEY, "https://a.example", "anna") != account_name(b"x" * 32, "https://a.example", "anna")


@pytest.mark.parametrize("name", ["room-ml", "anna", "ushort", "u" + "A" * 20, "u" + "a" * 20 + "\n"])
def test_other_accounts_are_not_taken_for_peoples(name: str) -> None:
    assert not is_account_of_person(name)


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"name": "Anna Schmidt"}, "Anna Schmidt"),
        ({"name": "  Anna\n\tSchmidt "}, "Anna Schmidt"),
        ({"name": "Anna\u202e\u200b Schmidt\x00"}, "Anna Schmidt"),
        ({"name": ["Anna"], "given_name": "Anna", "family_name": "Schmidt"}, "Anna Schmidt"),
        ({"preferred_username": "anna"}, "anna"),
        ({"name": "\u200b"}, "Somebody from Uni"),
        ({}, "Somebody from Uni"),
        ({"name": "x" * 500}, "x" * 80),
    ],
)
def test_the_name_that_is_shown(claims: dict[str, Any], shown: str) -> None:
    assert shown_name(claims, issuer()) == shown


def test_groups_come_from_both_claims() -> None:
    claims = {"eduperson_scoped_affiliation": ["Student@Uni.Example", "member@uni.example"], "groups": ["/lab", "x y"]}
    assert hub_groups(claims, issuer()) == {"aff:student@uni.example", "aff:member@uni.example", "idp:lab", "idp:x y"}


def test_a_provider_speaks_for_its_own_domains_and_groups_alone() -> None:
    claims = {"eduperson_scoped_affiliation": ["staff@other.example", "staff@uni.example"], "groups": ["staff"]}
    own = issuer(affiliation_domains=["uni.example"], group_prefix="b")
    assert hub_groups(claims, own) == {"aff:staff@uni.example", "idp:b:staff"}


@pytest.mark.parametrize("group", ["course:ml:instructor", "aff:staff@uni.example"])
def test_no_claim_names_a_group_that_is_not_the_providers(group: str) -> None:
    assert hub_groups({"groups": [group]}, issuer()) == {f"idp:{group}"}
    assert not is_claimed("course:ml:instructor")


@given(
    st.dictionaries(
        st.sampled_from(["groups", "name", "eduperson_scoped_affiliation"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        ),
    )
)
def test_whatever_a_provider_sends_is_read_or_left_out(claims: dict[str, Any]) -> None:
    for group in hub_groups(claims, issuer()):
        assert is_claimed(group)
        assert group.isprintable()
    assert shown_name(claims, issuer())


def test_strings_and_nested_claims_are_read_too() -> None:
    claims = {"affiliation": "staff@uni.example; member@uni.example", "resource_access": {"edif": {"roles": ["ops"]}}}
    read = issuer(affiliation_claim="affiliation", group_claim="resource_access.edif.roles", admin_groups=["ops"])
    assert hub_groups(claims, read) == {"aff:staff@uni.example", "aff:member@uni.example", "idp:ops"}
    assert is_admin(claims, read)


@pytest.mark.parametrize("rule", ["student@uni.example", "*@uni.example", "student@*", "Student@Uni.Example"])
def test_an_affiliation_lets_in(rule: str) -> None:
    admit({"eduperson_scoped_affiliation": "student@uni.example"}, issuer(allowed_affiliations=[rule]), "")


@pytest.mark.parametrize(
    "said", ["student@uni.example.evil.example", "staff@uni.example", "student", "a@student@uni.example"]
)
def test_one_that_only_looks_alike_does_not(said: str) -> None:
    refusal({"eduperson_scoped_affiliation": [said]}, allowed_affiliations=["student@uni.example"])


def test_a_refusal_names_the_rule_what_was_said_and_whom_to_ask() -> None:
    said = refusal(
        {"eduperson_scoped_affiliation": ["alum@uni.example"], "groups": ["choir"]},
        allowed_affiliations=["student@uni.example"],
        allowed_groups=["lab"],
    )
    for part in ("student@uni.example", "the group lab", "alum@uni.example", "choir", "ask help@uni.example"):
        assert part in said


def test_a_missing_claim_is_named() -> None:
    said = refusal({"name": "Anna"}, allowed_affiliations=["student@uni.example"])
    assert "did not send eduperson_scoped_affiliation" in said


def test_admins_are_let_in() -> None:
    admit({"groups": ["ops"]}, issuer(admin_groups=["ops"], allowed_groups=["lab"]), "")
