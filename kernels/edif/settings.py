"""Where the backend is and with which key it is asked: the variables that plain nnsight reads as well.

Built anew at each question, so that a changed variable counts; runs in the user's process.
"""

from __future__ import annotations

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ClientSettings(BaseSettings):
    """``NDIF_HOST``, ``NDIF_API_KEY`` and the name that the hub gave this server's user."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = Field(
        default="http://127.0.0.1:8001", validation_alias="NDIF_HOST", description="address of the gateway"
    )
    key: SecretStr = Field(
        default=SecretStr(""), validation_alias="NDIF_API_KEY", description="key of a kernel or a laptop"
    )
    user: str = Field(
        default="",
        validation_alias=AliasChoices("JUPYTERHUB_USER"),
        description="account at the hub; empty outside a user server",
    )
