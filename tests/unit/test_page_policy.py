"""Scripts in pages of the hub carry the nonce that the header names; the name shown is that of the person."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jinja2 import DictLoader, Environment

from edif_hub.page_policy import ScriptNonce, policy, shown_name


@pytest.mark.parametrize("tag", ["<script>", '<script src="a.js">', "<SCRIPT\n defer>"])
def test_every_script_of_a_template_has_the_nonce(tag: str) -> None:
    templates = Environment(
        loader=DictLoader({"page": f"{tag}x</script><scripted>"}), extensions=[ScriptNonce], autoescape=True
    )
    drawn = templates.get_template("page").render(script_nonce="abc", said="<script>")
    assert drawn.count('nonce="abc"') == 1


def test_what_people_say_gets_no_nonce() -> None:
    templates = Environment(loader=DictLoader({"page": "{{ said | safe }}"}), extensions=[ScriptNonce], autoescape=True)
    assert "nonce" not in templates.get_template("page").render(script_nonce="abc", said="<script>alert(1)</script>")


def test_the_policy_lets_no_script_in_that_has_no_nonce() -> None:
    rules = dict(rule.split(" ", 1) for rule in policy("abc", "/report").split("; "))
    assert rules["script-src"] == "'self' 'nonce-abc'"
    assert rules["object-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"
    assert "unsafe-eval" not in str(rules)


@pytest.mark.parametrize(
    ("user", "shown"),
    [
        (SimpleNamespace(name="u2a", user_info={"display_name": "Anna"}), "Anna"),
        (SimpleNamespace(name="admin", user_info=None), "admin"),
        (None, ""),
    ],
)
def test_the_name_on_pages(user: object, shown: str) -> None:
    assert shown_name(user) == shown
