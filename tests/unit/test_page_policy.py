"""Scripts in pages of the hub carry the nonce that the header names; the name shown is that of the person."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from jinja2 import DictLoader, Environment
from pydantic import ValidationError
from traitlets.config import Config

from edif_hub.page_policy import ScriptNonce, configure_pages, policy, shown_name
from edif_hub.settings import HubSettings
from edif_protocol.installation import PublicAddressSettings


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


def test_users_have_host_names_below_the_workbenchs_and_cookies_that_no_other_host_can_set() -> None:
    address = HubSettings(public_url="https://edif.example.org/", user_domains=True)
    c = Config()
    configure_pages(c, address)
    assert c.JupyterHub.subdomain_host == "https://edif.example.org"
    assert c.JupyterHub.cookie_host_prefix_enabled is True
    assert address.routed_host == "edif.example.org"
    assert address.user_hosts == "https://*.edif.example.org"
    assert "form-action 'self' https://*.edif.example.org;" in policy("abc", "/report", address.user_hosts)


def test_one_host_name_for_all_is_the_default() -> None:
    c = Config()
    configure_pages(c, HubSettings(public_url="https://edif.example.org"))
    assert "subdomain_host" not in c.JupyterHub
    assert "cookie_host_prefix_enabled" not in c.JupyterHub
    assert HubSettings().routed_host == HubSettings().user_hosts == ""


@pytest.mark.parametrize(
    "public_url", ["", "https://192.0.2.1", "https://[2001:db8::1]", "https://edif", "https://example.org/edif"]
)
def test_host_names_of_users_need_a_name_to_stand_below(public_url: str) -> None:
    with pytest.raises(ValidationError, match="user_domains needs a public_url"):
        PublicAddressSettings(public_url=public_url, user_domains=True)
