"""``python -m edif_backend.gateway``: the gateway process, started by the supervisor of ``edif up``."""

from __future__ import annotations

import uvicorn

from edif_backend import logs
from edif_backend.gateway.app import create_app
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation


def main() -> None:
    """Serve until told to stop; running requests are finished first."""
    logs.configure("gateway")
    installation = Installation()
    uvicorn.run(
        create_app(installation, BackendSettings()),
        host=installation.host,
        port=installation.ports["gateway"],
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=5,
        ws_max_size=1 << 20,
    )


if __name__ == "__main__":
    main()
