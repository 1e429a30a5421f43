"""Settings of the hub: the tables ``[hub]`` and ``[servers]`` of ``edif.toml``, ``EDIF_HUB_…``, ``EDIF_SERVERS_…``.

Built once, in ``jupyterhub_config.py``; the second also by the housekeeping (:mod:`edif_hub.housekeeping`).
"""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import PublicAddressSettings, TomlSettings

DAY_S = 24 * 3600
MIB = 1024 * 1024
GIB = 1024 * MIB


class HubSettings(PublicAddressSettings):
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


class Profile(BaseModel):
    """A size of server that users may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(description="what users read, in a few words")
    memory_bytes: int = Field(gt=0, description="memory of the server and its kernels together")
    cpus: float = Field(gt=0, description="cores of the server and its kernels together")


def _profiles() -> dict[str, Profile]:
    return {
        "small": Profile(title="Small: for tutorials and tracing", memory_bytes=2 * GIB, cpus=1),
        "medium": Profile(title="Medium: for large results", memory_bytes=8 * GIB, cpus=2),
    }


class ServerSettings(TomlSettings):
    """How user servers are started, how large they are, and when they are stopped."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_SERVERS_", toml_table_header=("servers",), frozen=True, extra="forbid"
    )

    spawner: Literal["local", "systemd", "docker", "batch"] = Field(
        default="local",
        description="local: processes of this account, without limits; systemd: units of real accounts (the hub runs as"
        " root); docker: containers; batch: Slurm jobs. The last three keep memory and cores to the profile",
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="further settings of that spawner by the names of its traits"
    )
    image: str = Field(default="edif/user-server:latest", description="image of the containers (docker)")
    profiles: dict[str, Profile] = Field(
        default_factory=_profiles, min_length=1, description="sizes to choose from; the first is the default"
    )
    start_timeout_s: int = Field(
        default=180, gt=0, description="a user server may take this long to start, once it is its turn"
    )
    starts_at_once: int = Field(
        default_factory=lambda: max(2, os.cpu_count() or 1),
        gt=0,
        description="so many servers start at once, the others wait for their turn and see their place",
    )
    servers_at_most: int = Field(default=0, ge=0, description="so many servers run at once; 0: any number")
    free_memory_bytes: int = Field(
        default=300 * MIB, ge=0, description="a local server is not started with less memory left than this"
    )
    home_bytes: int = Field(
        default=0, ge=0, description="beyond this a user's server starts in rescue, to delete files; 0: no limit"
    )
    disk_reserve_bytes: int = Field(
        default=64 * MIB, ge=0, description="less than this left counts as a full disk, and servers start in rescue"
    )
    idle_after_s: float = Field(
        default=3600.0, ge=0, description="a server in which nothing happens is stopped after this; 0: never"
    )
    warn_before_s: float = Field(default=900.0, ge=0, description="how long before that its user is warned")
    longest_s: float = Field(
        default=0.0, ge=0, description="a server is stopped this long after its start, busy or not; 0: never"
    )
    output_scripts: bool = Field(
        default=False,
        description="outputs of notebooks may run scripts of their own and load from anywhere (bokeh, BertViz);"
        " without, pages of user servers run what comes with the workbench and nothing else",
    )
    look_s: float = Field(default=30.0, gt=0, description="how often idle servers and the disk are looked at")
