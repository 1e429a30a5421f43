"""``python -m edif_backend.gateway``: the gateway process, started by the supervisor of ``edif up``."""

from __future__ import annotations

import uvicorn

from edif_backend import logs
from edif_backend.gateway.app import create_app
from edif_backend.gateway.connections import Connection, Websocket
from edif_backend.settings import BackendSettings
from edif_protocol.installation import Installation

#: How long requests in hand, downloads among them, may take once the gateway is told to stop.
DRAIN_S = 8


def main() -> None:
    """Serve until told to stop.

    Then it listens no more, sends websockets away (1012: come again, to the next gateway) and finishes the requests in
    hand, within :data:`DRAIN_S`.
    """
    logs.configure("gateway")
    installation, settings = Installation(), BackendSettings()
    uvicorn.run(
        create_app(installation, settings),
        host=installation.host,
        port=settings.gateway_port or installation.ports["gateway"],
        http=Connection,
        ws=Websocket,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_S,
        ws_max_size=1 << 20,
        ws_per_message_deflate=False,  # the hub's proxy hands on the browser's offer and does not understand a yes
    )


if __name__ == "__main__":
    main()
