"""One installation: its folder, its ports, its secrets.

Every process of an installation is started with ``EDIF_HOME``, ``EDIF_HOST`` and ``EDIF_PORT`` and derives the rest
from here, so an address or a path is written down once.  Called by the composition root of each process.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

#: Where the gateway has the model mirror.
MIRROR_PATH = "/hf"


class Installation(BaseSettings):
    """Folder, public address and ports of one installation (``EDIF_HOME``, ``EDIF_HOST``, ``EDIF_PORT``)."""

    model_config = SettingsConfigDict(env_prefix="EDIF_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".edif"), description="folder that holds all state of this installation")
    host: str = Field(default="127.0.0.1", description="address that every server of this installation listens on")
    port: int = Field(default=8000, ge=1024, le=65000, description="public port; the five after it are used too")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().resolve()

    # -- addresses ------------------------------------------------------------

    @property
    def ports(self) -> dict[str, int]:
        """Every TCP port of this installation by the role that listens on it."""
        roles = ("proxy", "gateway", "hub", "proxy-api", "ray", "courses")
        return {role: self.port + offset for offset, role in enumerate(roles)}

    def url(self, role: str) -> str:
        """``http://host:port`` of ``role`` (a key of :attr:`ports`), without a trailing slash."""
        return f"http://{self.host}:{self.ports[role]}"

    @property
    def mirror_url(self) -> str:
        """The model mirror: what ``HF_ENDPOINT`` is set to."""
        return f"{self.url('gateway')}{MIRROR_PATH}"

    # -- folders --------------------------------------------------------------

    @property
    def config_file(self) -> Path:
        """``edif.toml``: tables ``[backend]`` and ``[hub]``; absent means defaults."""
        return self.home / "edif.toml"

    @property
    def models_file(self) -> Path:
        """``models.toml``: the catalogue of models."""
        return self.home / "models.toml"

    @property
    def models_dir(self) -> Path:
        """Weights and tokenizers, one folder a model."""
        return self.home / "models"

    @property
    def jobs_database(self) -> Path:
        """The embedded jobs table (SQLite)."""
        return self.home / "jobs" / "jobs.sqlite"

    @property
    def objects_dir(self) -> Path:
        """Payloads and results (filesystem store)."""
        return self.home / "objects"

    @property
    def hub_dir(self) -> Path:
        """Database, cookie secret and user folders of the hub."""
        return self.home / "hub"

    @property
    def courses_dir(self) -> Path:
        """Register of the courses, and their workspaces unless a setting says where else."""
        return self.home / "courses"

    @property
    def logs_dir(self) -> Path:
        """One log file a process."""
        return self.home / "logs"

    @property
    def audit_dir(self) -> Path:
        """Who did what, one file a month."""
        return self.home / "audit"

    @property
    def run_dir(self) -> Path:
        """Sockets, pid files and the supervisor's configuration; worthless once everything is stopped."""
        return self.home / "run"

    @property
    def orders_dir(self) -> Path:
        """What the operator has ordered and the dispatcher not yet taken: models to load or to let go."""
        return self.run_dir / "orders"

    def environment(self, role: str) -> dict[str, str]:
        """The variables that a process of this installation is started with, ``EDIF_ROLE`` naming its role."""
        return {
            "EDIF_HOME": str(self.home),
            "EDIF_HOST": self.host,
            "EDIF_PORT": str(self.port),
            "EDIF_ROLE": role,
        }

    def child_environment(self, role: str) -> dict[str, str]:
        """This process's own variables, those of ``role`` over them, and this Python's scripts first on ``PATH``."""
        scripts = str(Path(sys.executable).parent)
        path = os.environ.get("PATH", os.defpath)
        return {**os.environ, **self.environment(role), "PATH": os.pathsep.join((scripts, path))}

    # -- secrets --------------------------------------------------------------

    def secret(self, name: str) -> str:
        """The secret ``name``, made on first use: 32 random bytes in hex, file mode 600.

        ``user-password`` is typed by people, so it is shorter: four groups of four letters (about 72 bits).
        """
        folder = self.home / "secrets"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / name
        try:
            return path.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            pass
        draft = folder / f".{name}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(_typable_password() if name == "user-password" else secrets.token_hex(32))
        try:
            os.link(draft, path)  # fails if another process was first: its secret counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text(encoding="ascii").strip()


def _typable_password() -> str:
    """Sixteen letters that are not mistaken for each other, in four groups."""
    letters = "abcdefghjkmnpqrstuvwxyz"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


class _TableSource(TomlConfigSettingsSource):
    """A table of a TOML file that may lack the table: then every setting has its default."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return {**{table: {} for table in self.toml_table_header}, **super()._read_file(file_path)}


class TomlSettings(BaseSettings):
    """Base of a deployable's settings: one table of ``edif.toml``, then ``EDIF_…`` variables over it.

    A subclass sets ``model_config`` with its ``env_prefix`` and ``toml_table_header``; unknown keys in its table are
    refused.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then ``edif.toml``."""
        return (init_settings, env_settings, _TableSource(settings_cls, Installation().config_file))


class PublicAddressSettings(TomlSettings):
    """Addresses of the workbench as browsers see them; what others need of the hub's table too."""

    model_config = SettingsConfigDict(env_prefix="EDIF_HUB_", toml_table_header=("hub",), frozen=True, extra="ignore")

    public_url: str = Field(
        default="",
        description="https address that browsers use, if a web server stands in front; empty: the port itself",
    )

    traces_url: str = Field(
        default="",
        description="https address under which people's own machines reach the gateway, if a web server passes it on to"
        " the gateway's port; empty: they need a tunnel to this machine",
    )

    user_domains: bool = Field(
        default=False,
        description="each user's server has a host name of its own below that of public_url, so that browsers keep"
        " users apart; needs DNS and a certificate for *.HOST",
    )

    @model_validator(mode="after")
    def _public_address(self) -> Self:
        if self.public_url and not urlsplit(self.public_url).hostname:
            raise ValueError('public_url must be an address such as "https://edif.example.org"')
        found = urlsplit(self.traces_url)
        if self.traces_url and (not found.hostname or found.path.strip("/")):
            raise ValueError(
                'traces_url must be a name of its own, such as "https://traces.edif.example.org", and no path'
            )
        if self.user_domains and not _has_names_below(self.public_url):
            raise ValueError('user_domains needs a public_url such as "https://edif.example.org": a name, and no path')
        return self

    def browsers_reach(self, installation: Installation) -> str:
        """The address under which browsers reach ``installation``, without a trailing slash."""
        return (self.public_url or installation.url("proxy")).rstrip("/")

    def clients_reach(self, installation: Installation, host: str | None = None) -> str:
        """The address under which clients reach the gateway of ``installation``, without a trailing slash.

        Args:
            host: by which somebody has reached it; None for a client on a machine of its own.
        """
        public = self.traces_url.rstrip("/")
        return public if public and host in (None, urlsplit(public).netloc) else installation.url("gateway")

    @property
    def routed_host(self) -> str:
        """The host name of everything but user servers, where these have their own; else empty."""
        return (urlsplit(self.public_url).hostname or "") if self.user_domains else ""

    @property
    def user_hosts(self) -> str:
        """The addresses of user servers that have host names of their own, as policies name them; else empty."""
        address = urlsplit(self.public_url)
        return f"{address.scheme}://*.{address.netloc}" if self.user_domains else ""


def _has_names_below(address: str) -> bool:
    """Whether there can be host names below that of ``address``."""
    found = urlsplit(address)
    host = found.hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host and found.path in {"", "/"}
    return False
