"""``python -m edif_backend.cli.ray_node``: becomes ``ray start --head`` for one installation.

Started by the supervisor as the program ``ray``.  When an earlier node of the same start of the workbench was lost,
what it has left behind is ended first: it would hold the port.  Nothing that is not needed is switched on: no dashboard
page, no log monitor, no usage statistics; a small object store, since results do not go through it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from edif_backend.cli.located import make_short_dir
from edif_backend.cli.processes import RAY_ROLES, end_members
from edif_backend.models import devices, gpus
from edif_backend.models.memory import host_bytes, warm_host_bytes
from edif_backend.settings import MIB, BackendSettings
from edif_protocol.installation import Installation

_OBJECT_STORE_BYTES = 128 * MIB


def command(installation: Installation, settings: BackendSettings, temporary: Path) -> list[str]:
    """``ray start`` for this installation; ``temporary`` must have a short path (sockets are made below it)."""
    warm_bytes = warm_host_bytes() if settings.warm_memory_bytes is None else settings.warm_memory_bytes
    own = gpus.found(settings.slots) if settings.use_gpus else devices.simulated(settings.simulated_devices)
    told = devices.resources(warm_bytes, own)
    return [
        *(str(Path(sys.executable).parent / "ray"), "start", "--head", "--block", "--disable-usage-stats"),
        *("--node-ip-address", installation.host, "--port", str(installation.ports["ray"])),
        *("--include-dashboard", "false", "--include-log-monitor", "false"),
        *("--object-store-memory", str(_OBJECT_STORE_BYTES), "--num-cpus", str(settings.slots)),
        # What models may take here: the dispatcher places them by what each node says.
        *("--memory", str(settings.model_memory_bytes or host_bytes()), "--resources", json.dumps(told)),
        *("--temp-dir", str(temporary), "--log-style", "record", "--log-color", "false"),
    ]


def main() -> None:
    """Clear away the last node, then become the new one."""
    installation = Installation()
    temporary = make_short_dir(installation) / "ray"
    if temporary.exists():
        # The dispatcher goes too, and is started again by the supervisor: what has joined Ray cannot join another.
        end_members(installation, RAY_ROLES | {"dispatcher"})
        shutil.rmtree(temporary)
    temporary.mkdir()
    arguments = command(installation, BackendSettings(), temporary)
    os.execv(arguments[0], arguments)  # noqa: S606 (there is no shell to be injected into)


if __name__ == "__main__":
    main()
