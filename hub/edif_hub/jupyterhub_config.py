"""JupyterHub's configuration: load the installation and its settings, apply them; nothing is appended or mutated.

Read by ``python -m jupyterhub -f …/edif_hub/jupyterhub_config.py``, which runs as the hub.
"""

from __future__ import annotations

import sys
from pathlib import Path

from traitlets.config import Config

from edif_courses.desk import open_desk
from edif_courses.settings import CourseSettings
from edif_hub import course_hooks, server, spawners
from edif_hub.errors import LoginRefused
from edif_hub.keys_page import KeysPage
from edif_hub.login import configure_login, private_file
from edif_hub.login_settings import LoginSettings
from edif_hub.page_policy import configure_pages, shown_name
from edif_hub.people_page import PeoplePage
from edif_hub.proxy_client import QuietProxy
from edif_hub.settings import HubSettings, ServerSettings
from edif_hub.start_queue import StartQueue
from edif_protocol.audit_log import AuditLog
from edif_protocol.installation import Installation
from edif_protocol.wire import (
    COURSES_PATH,
    KEYS_PATH,
    PAGE_CLIENT,
    PAGE_PATH,
    PEOPLE_PATH,
    TRACE_SCOPE,
)

installation = Installation()
settings = HubSettings()
servers = ServerSettings()
login_settings = LoginSettings()
audit = AuditLog(installation.audit_dir)
queue = StartQueue(servers.starts_at_once)
courses = open_desk(installation, CourseSettings())
installation.hub_dir.mkdir(parents=True, exist_ok=True, mode=0o700)

c = get_config()  # type: ignore[name-defined]  # noqa: F821 (JupyterHub puts it there)

try:
    configure_login(c, installation, settings, login_settings)
except LoginRefused as refusal:
    sys.exit(str(refusal))
configure_pages(c, settings)

# The proxy is a process of its own, so that the hub can be restarted under running servers.
c.JupyterHub.bind_url = installation.url("proxy")
c.JupyterHub.hub_bind_url = installation.url("hub")
c.JupyterHub.trusted_downstream_ips = ["127.0.0.1", "::1"]  # proxy and web server: the browser is who came before them
c.JupyterHub.cleanup_servers = False
c.JupyterHub.db_url = f"sqlite:///{private_file(installation.hub_dir / 'jupyterhub.sqlite')}"
c.JupyterHub.cookie_secret_file = str(installation.hub_dir / "cookie_secret")
c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
c.JupyterHub.template_vars = {
    "announcement_login": ""
    if login_settings.issuers
    else "Any name will do; the password is the one that edif up named.",
    "edif_page": PAGE_PATH,
    "edif_keys": KEYS_PATH,
    "edif_people": PEOPLE_PATH,
    "edif_profiles": servers.profiles,
    "edif_keeps_limits": servers.spawner in spawners.KEEPS_LIMITS,
    "shown_name": shown_name,
    "edif_courses": COURSES_PATH,
}
c.JupyterHub.extra_handlers = [
    (
        KEYS_PATH.removeprefix("/hub"),
        KeysPage,
        {"longest_s": settings.laptop_key_longest_s, "installation": installation},
    ),
    (PEOPLE_PATH.removeprefix("/hub"), PeoplePage, {"audit": audit}),
    course_hooks.handler(courses),
]
c.JupyterHub.proxy_class = QuietProxy
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = installation.url("proxy-api")
c.ConfigurableHTTPProxy.extra_routes = {
    f"{settings.routed_host}{PAGE_PATH}": installation.url("gateway"),
    f"{settings.routed_host}{COURSES_PATH}": installation.url("courses"),
}
c.ConfigurableHTTPProxy.auth_token = installation.secret("proxy-token")

# Nobody is given a `shares` scope: sharing of servers by their users stays off (GHSA-c4gm-pwx9-9w8j).
c.JupyterHub.custom_scopes = {TRACE_SCOPE: {"description": "Trace models on the eDIF backend."}}
c.JupyterHub.services = [
    {"name": "edif-cli", "api_token": installation.secret("hub-admin-token")},
    {"name": "edif-housekeeping", "api_token": installation.secret("housekeeping-token")},
    {"name": "edif-proxy", "api_token": installation.secret("proxy-routes-token")},
    # Without a url: the hub would wait for one at its start, half a minute while the gateway is down.
    {
        "name": "edif",
        "api_token": installation.secret("page-token"),
        "oauth_client_id": PAGE_CLIENT,
        "oauth_redirect_uri": f"{PAGE_PATH}oauth_callback",
        "oauth_client_allowed_scopes": [TRACE_SCOPE],
        "oauth_no_confirm": True,
    },
    course_hooks.service(installation),
]
c.JupyterHub.load_roles = [
    {
        "name": "user",
        "scopes": [
            "self",
            TRACE_SCOPE,
            "access:services!service=edif",
            f"access:services!service={course_hooks.SERVICE}",
        ],
    },
    {"name": "edif-cli", "scopes": ["admin:users", "admin:servers", "tokens"], "services": ["edif-cli"]},
    {
        "name": "edif-housekeeping",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["edif-housekeeping"],
    },
    {"name": "edif-proxy", "scopes": ["proxy"], "services": ["edif-proxy"]},
    course_hooks.service_role(),
]
c.JupyterHub.token_expires_in_max_seconds = settings.laptop_key_longest_s

c.JupyterHub.spawner_class = spawner = spawners.spawner_class(servers, queue)
c[spawner.__name__] = Config(spawners.traits(servers, installation))
c.JupyterHub.concurrent_spawn_limit = 0  # nobody is sent away: starts wait for their turn
c.JupyterHub.active_server_limit = servers.servers_at_most
c.Spawner.cmd = spawners.command(servers)
c.Spawner.environment = server.environment(installation, servers, settings)
c.Spawner.start_timeout = servers.start_timeout_s
c.Spawner.http_timeout = servers.start_timeout_s
c.Spawner.options_from_form = "simple"
c.Spawner.apply_user_options = server.profile_hook(servers)
start = server.before_start(installation, servers, queue, audit, settings.kernel_key_s)
c.Spawner.pre_spawn_hook = course_hooks.with_courses(start, courses)
c.Spawner.post_stop_hook = server.after_stop(audit)
