"""The login of an embedded installation: one password shared by everybody, on this machine only.

Called by ``jupyterhub_config.py``; runs in the hub's process.  With the shared password anybody can log in as any user
who is not an admin, so the hub refuses to start where other machines could reach it.
"""

from __future__ import annotations

import ipaddress

#: Account names are folder names too: no separators, no leading dot.  ``\Z`` since JupyterHub matches the start only.
USERNAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,31}\Z"


class LoginRefused(Exception):
    """The shared password must not be offered on this address; ``str(error)`` says what to do."""


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
            " reach it from elsewhere through an SSH tunnel (ssh -L)."
        )
