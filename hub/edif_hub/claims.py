"""What a provider's claims about a person come to here: name shown, groups, admitted or not.

Called at logins and when they are looked at again (:mod:`edif_hub.university`); runs in the hub's process.  Pure: no
network, no clock.  Claims are somebody else's data: wrong types count as absent, and nothing in them can name a group
that is not this provider's to give.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

from edif_hub.errors import NotAdmitted
from edif_hub.login_settings import Issuer

#: Groups that come from claims, and from nowhere else: whoever logs in has those that this login says.
AFFILIATION, PROVIDER = "aff:", "idp:"

_NAME_CHARACTERS = 80
_WORD_CHARACTERS = 200
_MOST_WORDS = 500


def is_claimed(group: str) -> bool:
    """Whether a group of the hub is one that logins give and take away."""
    return group.startswith((AFFILIATION, PROVIDER))


def shown_name(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """The name that pages show; never empty, one line, nothing invisible in it."""
    parts = (claims.get("given_name"), claims.get("family_name"))
    both = " ".join(part for part in parts if isinstance(part, str))
    for said in (_found(claims, issuer.name_claim), claims.get("name"), both, claims.get("preferred_username")):
        name = _visible(said) if isinstance(said, str) else ""
        if name:
            return name[:_NAME_CHARACTERS]
    return f"Somebody from {issuer.title}"


def affiliations(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """Scoped affiliations, small, of domains that this provider may speak for."""
    said = {word.lower() for word in _words(_found(claims, issuer.affiliation_claim)) if word.count("@") == 1}
    domains = issuer.affiliation_domains
    if domains is None or "*" in domains:
        return frozenset(said)
    own = {domain.lower() for domain in domains}
    return frozenset(word for word in said if word.split("@")[1] in own)


def provider_groups(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """The provider's own groups; Keycloak's leading slash falls off."""
    return frozenset(word.removeprefix("/") for word in _words(_found(claims, issuer.group_claim)) if word != "/")


def hub_groups(claims: Mapping[str, Any], issuer: Issuer) -> frozenset[str]:
    """Names of the hub's groups: ``aff:student@uni.example``, ``idp:GROUP`` or ``idp:PREFIX:GROUP``."""
    prefix = f"{PROVIDER}{issuer.group_prefix}:" if issuer.group_prefix else PROVIDER
    theirs = {f"{prefix}{group}" for group in provider_groups(claims, issuer)}
    return frozenset(theirs | {f"{AFFILIATION}{word}" for word in affiliations(claims, issuer)})


def is_admin(claims: Mapping[str, Any], issuer: Issuer) -> bool:
    """Whether a group of the provider makes this person an admin."""
    return bool(provider_groups(claims, issuer) & issuer.admin_groups)


def admit(claims: Mapping[str, Any], issuer: Issuer, contact: str) -> None:
    """Let the person in, or say which rule keeps them out.

    Raises:
        NotAdmitted: with the rule, what the provider said, and whom to ask.
    """
    held, groups = affiliations(claims, issuer), provider_groups(claims, issuer)
    if issuer.allow_everyone or is_admin(claims, issuer) or groups & issuer.allowed_groups:
        return
    if any(_matches(affiliation, rule) for affiliation in held for rule in issuer.allowed_affiliations):
        return
    ask = (
        f" If you should have access, ask {contact}." if contact else " If you should have access, ask whoever runs it."
    )
    raise NotAdmitted(f"{_rule(issuer)} {_said(claims, issuer, held, groups)}{ask}")


def _rule(issuer: Issuer) -> str:
    ways = []
    if issuer.allowed_affiliations:
        ways.append(f"the affiliation {' or '.join(sorted(issuer.allowed_affiliations))}")
    if issuer.allowed_groups:
        ways.append(f"the group {' or '.join(sorted(issuer.allowed_groups))}")
    people = f"people with {', or with '.join(ways)}" if ways else "its admins"
    return f"With a login of {issuer.title} this workbench is open to {people}."


def _said(claims: Mapping[str, Any], issuer: Issuer, held: frozenset[str], groups: frozenset[str]) -> str:
    needed = ((issuer.allowed_affiliations, issuer.affiliation_claim), (issuer.allowed_groups, issuer.group_claim))
    missing = [claim for rules, claim in needed if rules and _found(claims, claim) is None]
    told = []
    if held:
        told.append(f"the affiliation {', '.join(sorted(held)[:5])}")
    if issuer.allowed_groups and groups:
        told.append(f"the groups {', '.join(sorted(groups)[:5])}")
    said = f"It says of you: {'; '.join(told)}." if told else "It says neither affiliation nor group of you."
    if missing:
        names = " and ".join(missing)
        said += f" It did not send {names}: whoever runs that login service must release it to this workbench."
    return said


def _matches(affiliation: str, rule: str) -> bool:
    """``student@uni.example`` against itself, ``*@uni.example``, ``student@*``; no other patterns."""
    (kind, domain), (wanted_kind, _, wanted_domain) = affiliation.split("@"), rule.lower().partition("@")
    return wanted_kind in {"*", kind} and wanted_domain in {"*", domain}


def _found(claims: Mapping[str, Any], path: str) -> Any:
    """The claim of that name, or the one that the dots lead to (``resource_access.edif.roles``)."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _words(said: Any) -> list[str]:
    """A list of words, or one string of them, as providers send either; what cannot be a word is left out."""
    listed = said.replace(";", " ").replace(",", " ").split() if isinstance(said, str) else said
    if not isinstance(listed, list | tuple):
        return []
    words = [word.strip() for word in listed[:_MOST_WORDS] if isinstance(word, str)]
    return [word for word in words if word and len(word) <= _WORD_CHARACTERS and word.isprintable()]


def _visible(text: str) -> str:
    """``text`` in one line, without characters that are not seen or that turn the direction of what follows."""
    kept = "".join(
        " " if char.isspace() else char
        for char in text
        if unicodedata.category(char) not in {"Cc", "Cf"} or char.isspace()
    )
    return " ".join(kept.split())
