"""``python -m edif_hub.proxy``: configurable-http-proxy (Python), with two defects of its websockets mended.

Started by ``edif up`` with the arguments of ``configurable-http-proxy``; runs as the proxy, a process of its own.

Version 0.4.0 does not tell the browser which subprotocol the server chose, so browsers hang up and JupyterLab connects
to every kernel twice: what a user runs in between is lost.  And it sends binary frames on as text.
"""

from __future__ import annotations

from configurable_http_proxy.cli import main
from configurable_http_proxy.handlers import ProxyHandler


def select_subprotocol(self: ProxyHandler, subprotocols: list[str]) -> str | None:
    """What the server behind the proxy chose; it has been asked before the browser gets its answer."""
    chosen = self.ws_client.selected_subprotocol if self.ws_client else None
    return chosen if chosen in subprotocols else None


def on_message(self: ProxyHandler, message: str | bytes) -> None:
    """Send a frame on as what it is, text or binary, and note that its route is in use."""
    if self.ws_client:
        prefix = self.target["prefix"] if self.target else ""
        if prefix:
            self.proxy.update_last_activity(prefix)
        self.ws_client.write_message(message, binary=isinstance(message, bytes))


def mend() -> None:
    """Put the two methods above in the place of the proxy's own."""
    ProxyHandler.select_subprotocol = select_subprotocol
    ProxyHandler.on_message = on_message


if __name__ == "__main__":
    mend()
    main()
