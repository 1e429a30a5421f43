"""Attempts on the parts of a running workbench: its sockets, tokens and databases, and what its users have there."""

from __future__ import annotations

from tests.escapes.attempts import Attempts
from tests.escapes.files import read
from tests.escapes.network import connect

ATTEMPTS = Attempts()
ATTEMPTS.each(
    "read",
    read,
    {
        "a result of another user": "result",
        "the token of Ray": "ray_token",
        "the key of signed links": "link_key",
        "the token of the hub's services": "hub_token",
        "the hub's database": "hub_database",
        "the environment of the gateway": "gateway_environment",
        "the catalogue of models": "models_file",
    },
)
ATTEMPTS.each(
    "connect",
    connect,
    {
        "the proxy": "proxy",
        "the hub": "hub",
        "the gateway": "gateway",
        "the proxy's own interface": "proxy-api",
        "Ray": "ray",
        "the supervisor": "supervisor",
    },
)
