"""``python -m edif_hub.proxy``: configurable-http-proxy (Python), mended, and with its routes back at once.

Started by ``edif up`` with the arguments of ``configurable-http-proxy``; runs as the proxy, a process of its own.

A proxy that starts again knows no routes, and the hub would notice within five minutes: so it asks the hub for them.

Version 0.4.0 does not tell the browser which subprotocol the server chose, so browsers hang up and JupyterLab connects
to every kernel twice: what a user runs in between is lost.  It sends binary frames on as text.  And it writes ``%3A``
for a colon in a path, by which jupyter-collaboration 5 does not know a shared document: its notebook never opens.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from urllib.parse import urlsplit, urlunsplit

from configurable_http_proxy.cli import main
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient, HTTPClientError
from tornado.ioloop import IOLoop

from edif_protocol.installation import Installation

#: How long a hub that does not answer is asked; one that starts meanwhile sends the routes by itself.
_ASK_S, _PAUSE_S = 60.0, 0.05
_QUERY = re.compile(r"\?\S+")


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


_target_url = ProxyHandler.get_target_url


async def get_target_url(self: ProxyHandler, path: str) -> str | None:
    """The address behind the proxy, with the colons of its path as they came."""
    url: str | None = await _target_url(self, path)
    return with_colons(url) if url else url


def with_colons(url: str) -> str:
    """``url`` with plain colons in its path; what is asked for behind it stays as it is."""
    found = urlsplit(url)
    return urlunsplit(found._replace(path=found.path.replace("%3A", ":")))


def without_queries(record: logging.LogRecord) -> bool:
    """A line of the access log whose addresses end at the question mark: codes and tokens of logins stand behind it."""
    record.msg, record.args = _QUERY.sub("?…", record.getMessage()), None
    return True


def mend() -> None:
    """Put the three methods above in the place of the proxy's own, and keep secrets out of its log."""
    ProxyHandler.get_target_url = get_target_url
    ProxyHandler.select_subprotocol = select_subprotocol
    ProxyHandler.on_message = on_message
    logging.getLogger("tornado.access").addFilter(without_queries)


async def ask_for_routes(hub_url: str, token: str) -> None:
    """Have the hub send all routes, as soon as it answers."""
    client, until = AsyncHTTPClient(), time.monotonic() + _ASK_S
    while time.monotonic() < until:
        try:
            await client.fetch(
                f"{hub_url}/hub/api/proxy",
                method="POST",
                body="",
                headers={"Authorization": f"token {token}"},
                request_timeout=10,
            )
        except (OSError, HTTPClientError):
            await asyncio.sleep(_PAUSE_S)
        else:
            print(json.dumps({"level": "info", "event": "the hub has sent all routes"}), flush=True)
            return


if __name__ == "__main__":
    mend()
    installation = Installation()
    IOLoop.current().add_callback(ask_for_routes, installation.url("hub"), installation.secret("proxy-routes-token"))
    main()
