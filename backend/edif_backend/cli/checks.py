"""What this machine must have before the workbench can run, each check with its mend.

Called by ``edif up``, which stops at the first failure, and ``edif doctor``, which shows all.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import ValidationError

from edif_backend.cli.processes import owner_of_port
from edif_backend.errors import JailUnavailable
from edif_backend.executors import jail
from edif_backend.settings import MIB, BackendSettings
from edif_protocol.installation import Installation

OK, WARN, FAIL = "ok", "warn", "fail"

#: Free space without which nothing is started, and below which preparing a model may fail.
_DISK_LEAST_BYTES = 200 * MIB
_DISK_WANTED_BYTES = 3 * 1024 * MIB


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``mend`` says what to do and is empty when all is well."""

    name: str
    state: str
    finding: str
    mend: str = ""

    @property
    def sentence(self) -> str:
        """Finding and mend for a person."""
        return f"{self.finding} {self.mend}".strip()


def before_start(installation: Installation) -> Iterator[Check]:
    """What ``up`` needs, cheapest first; a generator, so that whoever stops at a failure does not run the rest."""
    yield check_python()
    yield check_home(installation)
    yield check_disk(installation)
    yield check_settings(installation)
    yield from check_ports(installation)
    yield check_jail()


def check_python() -> Check:
    """Python and the packages whose versions decide whether clients and backend understand each other."""
    try:
        found = ", ".join(f"{name} {version(name)}" for name in ("nnsight", "torch", "jupyterhub", "ray"))
    except PackageNotFoundError as missing:
        return Check("packages", FAIL, f"The package {missing.name} is not installed.", "Run ./edif setup.")
    return Check("packages", OK, f"Python {sys.version.split()[0]}, {found}.")


def check_home(installation: Installation) -> Check:
    """The folder of the installation can be written."""
    home = installation.home
    mend = "Make it writable for this account, or name another folder in EDIF_HOME."
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        trial = home / f".trial-{os.getpid()}"
        trial.write_bytes(b"edif")
        trial.unlink()
    except OSError as error:
        if error.errno is not None and os.strerror(error.errno) == "No space left on device":
            return Check("home", FAIL, f"The disk of {home} is full.", "Free some space.")
        return Check("home", FAIL, f"The folder {home} cannot be written ({error.strerror}).", mend)
    if '"' in str(home) or "\n" in str(home):
        finding = f"The folder {home} has a quote or a line break in its name."
        return Check("home", FAIL, finding, "Name another in EDIF_HOME.")
    return Check("home", OK, f"{home} can be written.")


def check_settings(installation: Installation) -> Check:
    """``edif.toml`` and the ``EDIF_BACKEND_…`` variables can be understood (the hub checks its own table)."""
    file = installation.config_file
    try:
        BackendSettings()
    except tomllib.TOMLDecodeError as invalid:
        return Check("settings", FAIL, f"{file} is not valid TOML: {invalid}.", "Correct it.")
    except ValidationError as invalid:
        first = invalid.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        mend = f"Correct [backend] in {file}, or the variable EDIF_BACKEND_{name.upper()}."
        return Check(
            "settings", FAIL, f"The setting {name} of the backend is not usable: {first['msg'].lower()}.", mend
        )
    return Check("settings", OK, f"{file} is understood." if file.exists() else "All settings have their defaults.")


def check_disk(installation: Installation) -> Check:
    """Room for models, logs and results."""
    existing = next(folder for folder in (installation.home, *installation.home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    finding = f"{free / 1024**3:.1f} GiB are free at {existing}."
    if free < _DISK_LEAST_BYTES:
        return Check("disk", FAIL, f"Only {finding}", "Free some space, or name a folder on another disk in EDIF_HOME.")
    if free < _DISK_WANTED_BYTES:
        return Check("disk", WARN, finding, "Preparing a model and keeping results may need 3 GiB and more.")
    return Check("disk", OK, finding)


def check_ports(installation: Installation) -> Iterator[Check]:
    """Nobody else listens where this installation's servers will."""
    for role, port in installation.ports.items():
        address = "" if role == "ray" else installation.host  # Ray listens on all addresses
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((address, port))
                continue
            except OSError as error:
                reason = error.strerror
        owner = owner_of_port(port)
        finding = f"Port {port} (for the {role}) is taken{f' by {owner}' if owner else ''} ({reason})."
        yield Check("ports", FAIL, finding, "Stop that program, or choose other ports: ./edif up --port 8100.")
        return
    first, last = min(installation.ports.values()), max(installation.ports.values())
    yield Check("ports", OK, f"Ports {first} to {last} on {installation.host} are free.")


def check_jail() -> Check:
    """A trial process is closed in as every executor is: tells which layers hold, and whether they are enough."""
    try:
        layers = jail.trial()
    except JailUnavailable as error:
        mend = (
            "An administrator must allow namespaces: sysctl kernel.unprivileged_userns_clone=1 "
            "user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0 (whichever exist); "
            "a container must allow unshare and mount."
        )
        return Check("jail", FAIL, str(error), mend)
    if not layers.enough:
        mend = "Use a kernel with Landlock or seccomp; EDIF_BACKEND_ACCEPT_WEAK_JAIL=true only among trusted users."
        return Check("jail", WARN, f"User code is not held in well enough: {layers}.", mend)
    if not layers.processes_counted:
        mend = "Run it as an ordinary user, or make this Python and the checkout readable to other accounts."
        return Check("jail", WARN, f"{layers}: user code could make threads until memory ends.", mend)
    return Check("jail", OK, f"{layers}.")


def check_gpu() -> Check:
    """Whether a GPU is there; none is fine."""
    if not Path("/dev/nvidiactl").exists():
        return Check("gpu", OK, "No NVIDIA GPU: models run on the processor.")
    return Check("gpu", OK, "An NVIDIA GPU is present.")


def check_memory(available_bytes: int) -> Check:
    """Room for Ray, the hub and the demo model."""
    finding = f"{available_bytes / 1024**3:.1f} GiB of memory are available."
    if available_bytes < 3 * 1024 * MIB:
        return Check("memory", WARN, finding, "The workbench with its demo model wants about 3 GiB.")
    return Check("memory", OK, finding)
