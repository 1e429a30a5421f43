"""Who may log in, and how: at their university, or with one password shared by everybody on this machine.

Called by ``jupyterhub_config.py``; runs in the hub's process.  With the shared password anybody can log in as any user
who is not an admin, so the hub refuses to start where other machines could reach it.
"""

from __future__ import annotations

import ipaddress
import stat
from pathlib import Path
from typing import Any

from edif_hub.errors import LoginRefused
from edif_hub.login_settings import Issuer, LoginSettings
from edif_hub.settings import HubSettings
from edif_hub.shared_password import EdifPassword
from edif_hub.university import EdifAuthenticator, Site
from edif_protocol.installation import Installation

#: Account names are folder names too: no separators, no leading dot.  ``\Z`` since JupyterHub matches the start only.
#: Accounts ``room-…`` belong to courses: nobody logs in as one.
USERNAME_PATTERN = r"(?!room-)[a-z0-9][a-z0-9._-]{0,31}\Z"


def is_loopback(host: str) -> bool:
    """Whether ``host`` can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(host: str) -> None:
    """Raise :class:`LoginRefused` unless ``host`` can be reached from this machine alone."""
    if not is_loopback(host):
        raise LoginRefused(
            f"The shared-password login is for this machine alone and EDIF_HOST is {host}: set EDIF_HOST=127.0.0.1 and"
            " reach it from elsewhere through an SSH tunnel (ssh -L), or set up a university's login (docs/login.md)."
        )


def configure_login(c: Any, installation: Installation, hub: HubSettings, login: LoginSettings) -> None:
    """Set everything that JupyterHub needs to know of logins.

    Raises:
        LoginRefused: this installation must not offer that login; the sentence says what to do.
    """
    c.Authenticator.admin_users = set(hub.admin_users)
    c.Authenticator.username_pattern = USERNAME_PATTERN
    if login.issuers:
        _configure_university(c, installation, hub, login)
    else:
        require_loopback(installation.host)
        c.JupyterHub.authenticator_class = EdifPassword
        c.SharedPasswordAuthenticator.user_password = installation.secret("user-password")
        c.SharedPasswordAuthenticator.admin_password = installation.secret("admin-password")
        c.EdifPassword.attempts_limit = login.attempts
        c.Authenticator.allowed_users = set(hub.allowed_users)
        c.Authenticator.allow_all = not hub.allowed_users


def _configure_university(c: Any, installation: Installation, hub: HubSettings, login: LoginSettings) -> None:
    c.JupyterHub.authenticator_class = EdifAuthenticator
    c.EdifAuthenticator.site = Site(
        settings=login,
        public_url=hub.browsers_reach(installation),
        account_key=bytes.fromhex(installation.secret("account-names")),
        client_secrets={issuer.id: client_secret(installation, issuer) for issuer in login.issuers},
    )
    c.Authenticator.allow_all = True  # whoever gets through `authenticate` has been let in
    c.Authenticator.enable_auth_state = True
    c.Authenticator.auth_refresh_age = login.refresh_s
    c.Authenticator.refresh_pre_spawn = True
    c.Authenticator.auth_refresh_strict = True  # keys of somebody who has left are refused
    c.CryptKeeper.keys = [bytes.fromhex(installation.secret("auth-state"))]


def client_secret(installation: Installation, issuer: Issuer) -> str:
    """The secret by which ``issuer`` knows this workbench; empty for a public client.

    Raises:
        LoginRefused: it is missing, or others can read it.
    """
    if issuer.client_secret is not None:
        if issuer.client_secret.get_secret_value():
            require_private(installation.config_file)
        return issuer.client_secret.get_secret_value()
    path = installation.home / "secrets" / f"login-{issuer.id}"
    if not path.exists():
        raise LoginRefused(
            f"The secret of the login service {issuer.id} is missing: write it into {path} (mode 600);"
            f' for a client without a secret say client_secret = "" in edif.toml.'
        )
    require_private(path)
    return path.read_text(encoding="utf-8").strip()


def require_private(path: Path) -> None:
    """Raise :class:`LoginRefused` if others than the owner may read ``path``, which holds a secret."""
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise LoginRefused(f"{path} holds a secret and others can read it: chmod 600 {path}")


def private_file(path: Path) -> Path:
    """``path``, made if it is not there yet, readable by its owner alone; SQLite's journals take after it."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    return path
