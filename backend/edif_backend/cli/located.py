"""Which installation a command is about: its folder from ``EDIF_HOME``, its port from wherever it was last said.

Called by every command of :mod:`edif_backend.cli`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from pydantic import ValidationError

from edif_backend.errors import SetupFailed
from edif_protocol.installation import Installation, PublicAddressSettings


def find_installation(port: int | None = None) -> Installation:
    """The installation: ``port`` if given, else ``EDIF_PORT``, else the port of the last ``up``, else the default.

    Raises:
        SetupFailed: an ``EDIF_…`` variable has no usable value.
    """
    try:
        installation = Installation() if port is None else Installation(port=port)
        remembered = _port_file(installation)
        if "port" not in installation.model_fields_set and remembered.is_file():
            installation = Installation(port=int(remembered.read_text(encoding="ascii")))
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = "_".join(("EDIF", *(str(part) for part in first["loc"]))).upper()
        raise SetupFailed(f"{name} cannot be {first['input']!r}: {first['msg'].lower()}.") from invalid
    return installation


def reached_at(installation: Installation) -> str:
    """The address at which browsers find it.

    Raises:
        SetupFailed: what ``edif.toml`` says of it cannot be used.
    """
    try:
        return PublicAddressSettings().browsers_reach(installation)
    except ValidationError as invalid:
        first = invalid.errors()[0]["msg"].removeprefix("Value error, ")
        raise SetupFailed(f"The table [hub] of {installation.config_file} cannot be used: {first}.") from invalid


def remember_port(installation: Installation) -> None:
    """Let later commands find the ports of this installation."""
    installation.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _port_file(installation).write_text(str(installation.port), encoding="ascii")


def _port_file(installation: Installation) -> Path:
    return installation.home / "port"


def short_dir(installation: Installation) -> Path:
    """A folder with a path short enough for the Unix sockets below it (at most 107 bytes); see :func:`make_short_dir`.

    Always below ``/tmp`` and not ``TMPDIR``: it must be the same folder for every command, whatever shell gives it.
    """
    digest = hashlib.sha256(os.fsencode(installation.home)).hexdigest()[:12]
    return Path("/tmp") / f"edif-{digest}"  # noqa: S108 (made private and checked below)


def make_short_dir(installation: Installation) -> Path:
    """Make :func:`short_dir`, readable by this account alone.

    Raises:
        SetupFailed: something that is not this account's private folder stands there.
    """
    folder = short_dir(installation)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise SetupFailed(f"{folder} is needed for sockets and is somebody else's: have it removed, then try again.")
    return folder


def supervisor_socket(installation: Installation) -> Path:
    """Where the supervisor of this installation listens."""
    return short_dir(installation) / "supervisor.sock"
