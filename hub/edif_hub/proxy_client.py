"""The hub's side of the proxy: as JupyterHub has it, but what passes through the proxy is no sign of use.

Set as ``proxy_class``; runs in the hub's process.  A page that JupyterLab keeps open asks its server something now and
then, so by the proxy's account no server would ever be idle.  Servers tell themselves when they were last used.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.proxy import ConfigurableHTTPProxy


class QuietProxy(ConfigurableHTTPProxy):
    """Routes without the time of their last use."""

    async def get_all_routes(self) -> dict[str, Any]:
        """All routes of the hub's, as :class:`ConfigurableHTTPProxy` gives them."""
        routes: dict[str, Any] = await super().get_all_routes()
        for route in routes.values():
            route["data"].pop("last_activity", None)
        return routes
