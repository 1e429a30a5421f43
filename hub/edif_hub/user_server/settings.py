"""What a user server is told by the hub: ``EDIF_SERVER_…`` variables, given by :mod:`edif_hub.server` at its start.

Built once, in the server's process.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 1024 * 1024


class UserServerSettings(BaseSettings):
    """Limits of this server, and where the other pages are."""

    model_config = SettingsConfigDict(env_prefix="EDIF_SERVER_", frozen=True, extra="ignore")

    home: Path = Field(default_factory=Path.home, description="the user's home folder")
    home_bytes: int = Field(default=0, ge=0, description="how much the user's files may take; 0: as much as there is")
    disk_reserve_bytes: int = Field(default=64 * MIB, ge=0, description="less than this left counts as a full disk")
    idle_after_s: float = Field(default=0.0, ge=0, description="an idle server is stopped after this; 0: never")
    warn_before_s: float = Field(default=900.0, ge=0, description="how long before that the user is warned")
    page_url: str = Field(default="", description="address of the page with jobs and models; a path: on the same host")
    courses_url: str = Field(default="", description="address of the page of courses, likewise; empty: there is none")
    output_scripts: bool = Field(default=False, description="outputs may run scripts and load from anywhere")
    notices: tuple[str, ...] = Field(default=(), description="what this server's start has to tell its user")
