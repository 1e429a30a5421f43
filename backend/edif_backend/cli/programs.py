"""The seven long-lived programs of an installation, and the supervisor's configuration that keeps them running.

Called by :mod:`edif_backend.cli.supervision`; pure but for secrets, which are drawn on first use.
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from edif_backend.cli.located import supervisor_socket
from edif_protocol.installation import Installation

#: The order in which they are started; none waits for another, each retries until what it needs is there.
ROLES = ("ray", "proxy", "hub", "housekeeping", "gateway", "courses", "dispatcher")


@dataclass(frozen=True, slots=True)
class Program:
    """One supervised process."""

    role: str
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    stop_wait_s: int = 10


def programs(installation: Installation) -> list[Program]:
    """The programs of this installation, in :data:`ROLES` order."""
    python = sys.executable
    cluster = {
        "RAY_ADDRESS": f"{installation.host}:{installation.ports['ray']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(secret_file(installation, "ray-token")),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "5",  # not Ray's 15: beside users' kernels, jobs would get a few hundredths of a core
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # running jobs are requeued anyway: no need to wait for them
    }
    return [
        Program("ray", (python, "-m", "edif_backend.cli.ray_node"), cluster),
        Program("proxy", _proxy_command(installation), {"CONFIGPROXY_AUTH_TOKEN": installation.secret("proxy-token")}),
        Program("hub", (python, "-m", "jupyterhub", "-f", str(_package("edif_hub") / "jupyterhub_config.py"))),
        Program("housekeeping", (python, "-m", "edif_hub.housekeeping")),
        Program("gateway", (python, "-m", "edif_backend.gateway")),
        Program("courses", (python, "-m", "edif_courses")),
        Program("dispatcher", (python, "-m", "edif_backend.dispatch"), cluster, stop_wait_s=20),
    ]


def _proxy_command(installation: Installation) -> tuple[str, ...]:
    ports = installation.ports
    return (
        *(sys.executable, "-m", "edif_hub.proxy"),
        *("--ip", installation.host, "--port", str(ports["proxy"])),
        *("--api-ip", installation.host, "--api-port", str(ports["proxy-api"])),
        *("--default-target", installation.url("hub")),
        *("--error-target", f"{installation.url('hub')}/hub/error"),
    )


def _package(name: str) -> Path:
    """Folder of a package that this process must not import (the hub's needs JupyterHub)."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"The package {name} is not installed: run ./edif setup, which installs all of them.")
    return Path(next(iter(found.submodule_search_locations)))


def secret_file(installation: Installation, name: str) -> Path:
    """The file of a secret, for programs that want a path; the secret is drawn if it was not yet."""
    installation.secret(name)
    return installation.home / "secrets" / name


def log_file(installation: Installation, role: str) -> Path:
    """Where the output of ``role`` goes."""
    return installation.logs_dir / f"{role}.log"


def supervisor_config(installation: Installation, chosen: Iterable[Program]) -> str:
    """The supervisor's configuration file: every program restarted with growing pauses, its log rotated."""
    sections = [
        _section("unix_http_server", file=supervisor_socket(installation), chmod="0700"),
        _section(
            "supervisord",
            nodaemon="true",
            silent="true",
            logfile=log_file(installation, "supervisor"),
            pidfile=installation.run_dir / "supervisor.pid",
            directory=installation.home,
            childlogdir=installation.logs_dir,
        ),
        _section(
            "rpcinterface:supervisor",
            **{"supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"},
        ),
    ]
    for order, program in enumerate(chosen):
        environment = {**program.environment, "EDIF_ROLE": program.role}
        sections.append(
            _section(
                f"program:{program.role}",
                command=shlex.join(program.command),
                environment=",".join(f'{name}="{value}"' for name, value in environment.items()),
                priority=order,
                autostart="true",
                autorestart="true",
                startsecs=3,
                startretries=1_000_000,  # for ever, a second later each time
                stopwaitsecs=program.stop_wait_s,
                stopasgroup="true",
                killasgroup="true",
                redirect_stderr="true",
                stdout_logfile=log_file(installation, program.role),
                stdout_logfile_maxbytes="10MB",
                stdout_logfile_backups=3,
            )
        )
    return "\n".join(sections)


def _section(header: str, **options: object) -> str:
    # The file is read with %-expansion: a percent sign in a path must be doubled.
    lines = [f"{name} = {str(value).replace('%', '%%')}" for name, value in options.items()]
    return "\n".join((f"[{header}]", *lines, ""))
