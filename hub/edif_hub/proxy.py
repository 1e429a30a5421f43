"""``python -m edif_hub.proxy``: configurable-http-proxy (Python), mended, and with its routes back at once.

Started by ``edif up`` with the arguments of ``configurable-http-proxy``; runs as the proxy, a process of its own.

A proxy that starts again knows no routes, and the hub would notice within five minutes: so it asks the hub for them.

Version 0.4.0 does not tell the browser which subprotocol the server chose, so browsers hang up and JupyterLab connects
to every kernel twice: what a user runs in between is lost.  It sends binary frames on as text.  It writes ``%3A`` for a
colon in a path, by which jupyter-collaboration 5 does not know a shared document: its notebook never opens.  And it
loses what a web server in front says of the browser: all browsers had that server's address, and none came by https.

Where user servers have host names of their own (``[hub] user_domains``) it routes by these, which version 0.4.0 has an
option for and does not do.  At the host name of a user there is that user's server and nothing else: were the hub's
pages there too, whoever logs in there would do so in the reach of that user's scripts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import quote

from configurable_http_proxy.cli import main
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.ioloop import IOLoop

from edif_protocol.installation import Installation, PublicAddressSettings

#: How long a hub that does not answer is asked; one that starts meanwhile sends the routes by itself.
_ASK_S, _PAUSE_S = 60.0, 0.05
_QUERY = re.compile(r"\?\S+")
#: Headers in which others believe; the last two, which browsers might send themselves, end here.
_OF_BROWSER = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto", "x-real-ip", "x-scheme"}
#: What is shown at every host name: pages that say why a server does not answer have their style from there.
_SHOWN_EVERYWHERE = ("/hub/static/", "/hub/logo")


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


def routed_by(address: PublicAddressSettings) -> Callable[[ProxyHandler, str], Awaitable[str | None]]:
    """The method that finds what is behind the proxy, by host names if user servers have their own."""

    async def get_target_url(self: ProxyHandler, path: str) -> str | None:
        """The address behind the proxy; None if the request has been answered here."""
        host, path = host_asked_for(address.routed_host, self.request.host_name), f"/{path.lstrip('/')}"
        self.target = self.proxy.target_for_req(host, path)
        if self.target is None:
            await self.handle_proxy_error(404, None)
            return None
        strayed = host != address.routed_host and self.target["prefix"] == "/"
        if strayed and not path.startswith(_SHOWN_EVERYWHERE):
            if self.request.method in {"GET", "HEAD"}:
                self.redirect(f"{address.public_url.rstrip('/')}{self.request.uri}")
            else:
                await self.handle_proxy_error(404, None)
            return None
        return url_behind(self.target["target"], path, self.request.query)

    return get_target_url


def host_asked_for(own: str, asked: str) -> str:
    """The host name to route by: one below ``own``, the workbench's; all others, addresses say, mean ``own`` itself."""
    asked = asked.rstrip(".")
    return asked if own and asked.endswith(f".{own}") else own


def url_behind(target: str, path: str, query: str) -> str:
    """``path`` at ``target``, its colons as they came."""
    return f"{target.rstrip('/')}{quote(path, safe='/:')}{'?' if query else ''}{query}"


_request = ProxyHandler._get_proxy_request


def get_proxy_request(self: ProxyHandler, url: str) -> HTTPRequest:
    """The request as it is sent on, with what is known of the browser."""
    made: HTTPRequest = _request(self, url)
    kept = {name: value for name, value in made.headers.items() if name.lower() not in _OF_BROWSER}
    made.headers = kept | of_browser(self.request.headers, self.request.remote_ip)
    return made


def of_browser(headers: Mapping[str, str], address: str) -> dict[str, str]:
    """Headers that tell of the browser: as a web server in front has them, and ``address`` from where they came."""
    before = headers.get("X-Forwarded-For")
    return {
        "X-Forwarded-For": f"{before}, {address}" if before else address,
        "X-Forwarded-Proto": headers.get("X-Forwarded-Proto", "http"),
        "X-Forwarded-Host": headers.get("X-Forwarded-Host", headers.get("Host", "")),
    }


def without_queries(record: logging.LogRecord) -> bool:
    """A line of the access log whose addresses end at the question mark: codes and tokens of logins stand behind it."""
    record.msg, record.args = _QUERY.sub("?…", record.getMessage()), None
    return True


def mend(address: PublicAddressSettings) -> None:
    """Put the four methods above in the place of the proxy's own, and keep secrets out of its log."""
    ProxyHandler.get_target_url = routed_by(address)
    ProxyHandler._get_proxy_request = get_proxy_request
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
    installation, address = Installation(), PublicAddressSettings()
    mend(address)
    if address.user_domains:
        sys.argv += ("--host-routing", "yes")
    IOLoop.current().add_callback(ask_for_routes, installation.url("hub"), installation.secret("proxy-routes-token"))
    main()
