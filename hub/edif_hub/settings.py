"""Settings of the hub: the table ``[hub]`` of ``edif.toml`` and ``EDIF_HUB_…`` variables.

Built once, in ``jupyterhub_config.py``.
"""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import TomlSettings

DAY_S = 24 * 3600


class HubSettings(TomlSettings):
    """Who may log in, how long keys live, how patient the hub is with a starting server."""

    model_config = SettingsConfigDict(env_prefix="EDIF_HUB_", toml_table_header=("hub",), frozen=True, extra="forbid")

    allowed_users: frozenset[str] = Field(
        default=frozenset(), description="who may log in with the shared password; empty means any name"
    )
    admin_users: frozenset[str] = Field(
        default=frozenset({"admin"}), description="who may use the admin page; they log in with the admin password"
    )
    kernel_key_s: int = Field(
        default=14 * DAY_S, gt=0, description="a kernel's key ends this long after its server's start at the latest"
    )
    laptop_key_longest_s: int = Field(
        default=90 * DAY_S, gt=0, description="longest life of a key that a user asks for"
    )
    start_timeout_s: int = Field(
        default=180, gt=0, description="a user server may take this long to start (ten at once on two cores: 35 s each)"
    )
