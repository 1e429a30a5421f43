"""JupyterLab's side door to the workbench: what to tell the user, tutorials put back, which servers are in use, policy.

Loaded by Jupyter Server (``jupyter_server_config.json``); runs in the user's server.  Jupyter counts a server as in use
when something is asked or printed; a kernel that computes in silence, or waits for a remote job, does neither.  So the
state of the kernels is looked at here, and a busy one is activity.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from jupyterlab.commands import get_app_dir
from tornado import web
from tornado.ioloop import PeriodicCallback

from edif_hub.shipped import package_folder, tutorials_folder
from edif_hub.user_server.lab_policy import open_policy, policy, script_of_views, scripts_in
from edif_hub.user_server.settings import UserServerSettings
from edif_hub.user_server.tutorials import FOLDER, reset

_LOOK_S, _LOOKS = 15.0, 10  #: how often kernels are looked at, at least; and how often in the time of idleness
_ACTIVITY = "edif-busy-kernel"
#: States of a kernel in which its server may be stopped; in any other it does something.
_AT_REST = frozenset({"idle", "dead", "terminating", "unknown"})


def note_busy_kernels(app: Any) -> None:
    """A kernel that is at work is activity, however silent."""
    kernels = app.kernel_manager.list_kernels()
    if any(kernel["execution_state"] not in _AT_REST for kernel in kernels):
        app.web_app.settings["last_activity_times"][_ACTIVITY] = datetime.now(UTC)


def seconds_left(last_activity: datetime, idle_after_s: float, now: datetime) -> float | None:
    """In how many seconds the server is stopped if nothing happens; None for never."""
    return max(0.0, idle_after_s - (now - last_activity).total_seconds()) if idle_after_s else None


class WorkbenchHandler(APIHandler):
    """``GET edif/workbench``: notices, time left, and where the other pages are.  Asking is no activity."""

    _track_activity = False

    def initialize(self, serverapp: Any, settings_: UserServerSettings) -> None:
        """Tornado's way to hand things over."""
        self._app, self._settings = serverapp, settings_

    @web.authenticated
    async def get(self) -> None:
        """What JupyterLab shows in its launcher and its notifications."""
        note_busy_kernels(self._app)
        settings = self._settings
        left_s = seconds_left(self._app.web_app.last_activity(), settings.idle_after_s, datetime.now(UTC))
        self.finish(
            {
                "notices": list(settings.notices),
                "stops_in_s": left_s,
                "warned": left_s is not None and left_s <= settings.warn_before_s,
                "tutorials": FOLDER,
                "page": settings.page_url,
                "courses": settings.courses_url,
            }
        )

    @web.authenticated
    async def post(self) -> None:
        """Somebody is there: the server is not idle."""
        self._app.web_app.settings["last_activity_times"]["edif-user"] = datetime.now(UTC)
        self.set_status(204)


class ResetHandler(APIHandler):
    """``POST edif/reset``: a tutorial as it came; what was made of it is kept beside it."""

    def initialize(self, settings_: UserServerSettings) -> None:
        """Tornado's way to hand things over."""
        self._settings = settings_

    @web.authenticated
    async def post(self) -> None:
        """Put ``{"name": …}`` back; answers ``{"kept": name or null}``."""
        name = str((self.get_json_body() or {}).get("name", ""))
        put_back = partial(reset, tutorials_folder(), self._settings.home, name)
        try:
            kept = await asyncio.get_running_loop().run_in_executor(None, put_back)
        except FileNotFoundError as error:
            raise web.HTTPError(404, str(error), reason="Not a tutorial") from error
        except OSError as error:
            raise web.HTTPError(507, f"It could not be written: {error.strerror}.", reason="No room") from error
        self.finish({"kept": kept})


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "edif_hub.user_server.extension"}]


def _policy(settings: UserServerSettings) -> str:
    """What the pages of this server may load and run."""
    if settings.output_scripts:
        return open_policy()
    lab = scripts_in(Path(get_app_dir()) / "static" / "index.html")
    return policy([*lab, *script_of_views(package_folder("edif_widgets") / "labextension" / "page.js")])


def _load_jupyter_server_extension(serverapp: Any) -> None:
    settings = UserServerSettings()
    serverapp.web_app.settings.setdefault("headers", {})["Content-Security-Policy"] = _policy(settings)
    root = serverapp.web_app.settings["base_url"]
    serverapp.web_app.add_handlers(
        ".*$",
        [
            (
                url_path_join(root, "edif", "workbench"),
                WorkbenchHandler,
                {"serverapp": serverapp, "settings_": settings},
            ),
            (url_path_join(root, "edif", "reset"), ResetHandler, {"settings_": settings}),
        ],
    )
    look_s = min(_LOOK_S, settings.idle_after_s / _LOOKS or _LOOK_S)
    PeriodicCallback(partial(note_busy_kernels, serverapp), look_s * 1000).start()
