"""Settings of university login: the table ``[login]`` of ``edif.toml`` and its ``[[login.issuers]]``.

Built once, in ``jupyterhub_config.py``; what each means for people: ``docs/login.md``.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from edif_protocol.installation import TomlSettings

DAY_S = 24 * 3600

Claim = Annotated[str, Field(min_length=1, max_length=100)]


class Issuer(BaseModel):
    """One login service: an OpenID provider, or a proxy in front of many universities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$", description="short name, used in addresses and file names")
    title: str = Field(min_length=1, max_length=60, description="what the login button says")
    issuer: str = Field(description="the provider's issuer, exactly as its discovery document says it")
    client_id: str = Field(min_length=1, description="what the provider knows this workbench as")
    client_secret: SecretStr | None = Field(
        default=None, description="the client's secret; absent: EDIF_HOME/secrets/login-ID, a file of mode 600"
    )
    scopes: tuple[str, ...] = Field(
        default=("openid", "profile", "email", "offline_access"),
        description="asked for; offline_access is left out where the provider does not know it",
    )
    authorize_parameters: dict[str, str] = Field(
        default={}, description="sent along to the provider's login page, such as kc_idp_hint or acr_values"
    )
    name_claim: Claim = Field(default="name", description="claim with the name that is shown")
    affiliation_claim: Claim = Field(
        default="eduperson_scoped_affiliation",
        description="claim with scoped affiliations, such as student@uni.example",
    )
    affiliation_domains: frozenset[str] | None = Field(
        default=None, description="domains this provider may speak for, * for all; with several issuers it must be said"
    )
    group_claim: Claim = Field(
        default="groups", description="claim with the provider's groups; a.b reaches into objects"
    )
    group_prefix: str = Field(
        default="", pattern=r"^[a-z0-9.-]{0,20}$", description="put before this provider's groups: idp:PREFIX:GROUP"
    )
    allowed_affiliations: frozenset[str] = Field(
        default=frozenset(), description="who may log in: student@uni.example, *@uni.example, member@*"
    )
    allowed_groups: frozenset[str] = Field(default=frozenset(), description="who may log in: the provider's groups")
    allow_everyone: bool = Field(default=False, description="whoever this provider knows may log in")
    admin_groups: frozenset[str] = Field(
        default=frozenset(), description="the provider's groups whose members are admins"
    )

    @field_validator("issuer")
    @classmethod
    def _safe(cls, issuer: str) -> str:
        address = urlsplit(issuer)
        loopback = address.hostname in {"localhost", "127.0.0.1", "::1"}
        if address.scheme != "https" and not (address.scheme == "http" and loopback):
            raise ValueError("issuer must be an https address")
        return issuer

    @model_validator(mode="after")
    def _somebody_gets_in(self) -> Self:
        if not (self.allow_everyone or self.allowed_affiliations or self.allowed_groups or self.admin_groups):
            raise ValueError(
                f"nobody could log in at {self.id}: set allowed_affiliations, allowed_groups, or allow_everyone = true"
            )
        if "openid" not in self.scopes:
            raise ValueError("scopes must name openid")
        return self


class LoginSettings(TomlSettings):
    """University login; without issuers the shared password counts, on this machine alone."""

    model_config = SettingsConfigDict(
        env_prefix="EDIF_LOGIN_", toml_table_header=("login",), frozen=True, extra="forbid", env_nested_delimiter="__"
    )

    issuers: tuple[Issuer, ...] = Field(default=(), description="login services, in the order of their buttons")
    contact: str = Field(default="", description="whom people ask who cannot get in: a mail address or a page")
    refresh_s: int = Field(
        default=300, ge=1, description="how old the provider's word on somebody may be while it answers"
    )
    outage_s: int = Field(
        default=DAY_S,
        gt=0,
        description="how old it may be while the provider does not answer; then those who are in wait too",
    )
    session_s: int = Field(
        default=DAY_S,
        gt=0,
        description="life of a login at a provider that cannot be asked again; keys and servers go on",
    )
    keys_without_login_days: int = Field(
        default=30, gt=0, description="keys and servers of somebody who has not logged in for so long end"
    )
    attempts: int = Field(default=20, gt=0, description="failed logins in a minute from one address, or for one name")

    @model_validator(mode="after")
    def _apart(self) -> Self:
        for what in ("id", "issuer"):
            twice = [word for word, times in Counter(getattr(each, what) for each in self.issuers).items() if times > 1]
            if twice:
                raise ValueError(f"two issuers have the {what} {twice[0]}")
        if len(self.issuers) > 1:
            self._claims_apart()
        return self

    def _claims_apart(self) -> None:
        """What one provider says must not make its people members of another's groups."""
        prefixes = {each.group_prefix for each in self.issuers}
        if "" in prefixes or len(prefixes) < len(self.issuers):
            raise ValueError("give each issuer a group_prefix of its own: equal group names of two would be one group")
        for each in self.issuers:
            if each.affiliation_domains is None:
                raise ValueError(
                    f'say affiliation_domains of the issuer {each.id}; ["*"] if it may speak for every domain'
                )
