"""A browser's way through the shared-password login of the embedded installation."""

from __future__ import annotations

from playwright.sync_api import Page

from edif_protocol.installation import Installation


def log_in(
    page: Page, installation: Installation, user: str, path: str, lands: str | None = None, address: str = ""
) -> None:
    """Open ``path`` as ``user``, through the login that stands before it; it leads to ``lands`` if that is given.

    ``address`` is the workbench's, if it has a name.
    """
    page.goto(f"{address or installation.url('proxy')}{path}")
    page.fill("#username_input", user)
    kind = "admin-password" if user == "admin" else "user-password"
    page.fill("#password_input", installation.secret(kind))
    page.click("#login_submit")
    page.wait_for_url(f"**{lands or path}")
