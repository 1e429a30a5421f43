"""What the hub's pages may load, and the name that they show of a person.

Called by ``jupyterhub_config.py``; runs in the hub's process.  JupyterHub's templates have scripts in the page itself,
with no mark to know them by.  So each answer gets a nonce, which its header names and its own ``<script>`` tags carry:
a script that somebody smuggles into a page has none and does not run.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from jinja2.ext import Extension
from jupyterhub.handlers import BaseHandler
from jupyterhub.user import User

from edif_hub.settings import HubSettings

_SCRIPT_TAG = re.compile(r"<script(?=[\s>])", re.IGNORECASE)

_HEADERS = {
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class ScriptNonce(Extension):
    """Writes ``nonce="…"`` into every script tag of a template, when it is loaded."""

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """The template with a nonce in its tags."""
        return _SCRIPT_TAG.sub('<script nonce="{{ script_nonce }}"', source)


def policy(nonce: str, report_to: str, user_hosts: str = "") -> str:
    """The hub's Content-Security-Policy; styles may stand in the page, since they draw and cannot act.

    Forms (the login's, for one) lead on to user servers, so ``user_hosts`` is where these are if not on this host.
    """
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' 'nonce-{nonce}'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": f"'self' {user_hosts}",
        "frame-ancestors": "'none'",
        "report-uri": report_to,
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def configure_pages(c: Any, hub: HubSettings) -> None:
    """Set headers and addresses of the hub's pages, and of the servers that they lead to."""
    c.JupyterHub.tornado_settings = {"headers": _HEADERS}
    c.JupyterHub.jinja_environment_options = {"extensions": [ScriptNonce]}
    _mark_pages(hub.user_hosts)
    if hub.public_url:
        c.JupyterHub.public_url = f"{hub.public_url.rstrip('/')}/"
    if hub.user_domains:
        c.JupyterHub.subdomain_host = hub.public_url.rstrip("/")
        # A page of one user's server may set cookies for the whole domain; those with this prefix it cannot.
        c.JupyterHub.cookie_host_prefix_enabled = hub.public_url.startswith("https:")


def _mark_pages(user_hosts: str) -> None:
    """Give every page of the hub a nonce of its own, in its header and in its template."""
    plain_namespace = BaseHandler.template_namespace

    def nonce(handler: BaseHandler) -> str:
        if not hasattr(handler, "_edif_nonce"):
            handler._edif_nonce = secrets.token_urlsafe(16)
        return str(handler._edif_nonce)

    def namespace(handler: BaseHandler) -> dict[str, Any]:
        return {**plain_namespace.fget(handler), "script_nonce": nonce(handler)}

    BaseHandler.template_namespace = property(namespace)
    BaseHandler.content_security_policy = property(
        lambda handler: policy(nonce(handler), handler.csp_report_uri, user_hosts)
    )


def shown_name(user: User | None) -> str:
    """The name that pages show of ``user``: that of the person, or else that of the account."""
    told = (getattr(user, "user_info", None) or {}) if user else {}
    return str(told.get("display_name") or getattr(user, "name", ""))
