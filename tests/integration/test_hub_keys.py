"""A user server's kernels get a narrow key of their own at its start, and lose it at its stop."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

if TYPE_CHECKING:
    from conftest import Workbench


@contextmanager
def _login(workbench: Workbench, user: str, password: str) -> Iterator[httpx.Client]:
    """A browser's cookies after the login form of the hub."""
    with httpx.Client(base_url=workbench.installation.url("proxy"), follow_redirects=True, timeout=60) as browser:
        token = re.search(r'name="_xsrf" value="([^"]*)"', browser.get("/hub/login").text)
        assert token
        form = {"_xsrf": token[1], "username": user, "password": password}
        browser.post("/hub/login?next=/hub/home", data=form)
        yield browser


def _hub(workbench: Workbench) -> httpx.Client:
    """The hub's API with the rights of the ``edif`` command."""
    key = workbench.installation.secret("hub-admin-token")
    return httpx.Client(
        base_url=f"{workbench.installation.url('hub')}/hub/api", headers={"Authorization": f"token {key}"}, timeout=30
    )


def _kernel_keys(workbench: Workbench, user: str) -> list[list[str]]:
    """Scopes of each key that the kernels of ``user`` have now."""
    with _hub(workbench) as hub:
        tokens = hub.get(f"/users/{user}/tokens").json()["api_tokens"]
    return [token["scopes"] for token in tokens if token["note"] == "kernels of the default server"]


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline, "it did not come about within two minutes"
        time.sleep(0.3)


def _server_environment(workbench: Workbench, user: str) -> dict[str, str]:
    """The variables that the server of ``user`` was started with."""
    for process in psutil.process_iter():
        try:
            found = process.environ()
        except (psutil.AccessDenied, psutil.NoSuchProcess):
            continue
        mine = found.get("EDIF_HOME") == str(workbench.installation.home) and found.get("JUPYTERHUB_USER") == user
        if mine and found.get("EDIF_ROLE") == "user-server":
            return found
    raise AssertionError(f"no server of {user} is running")


@pytest.fixture(scope="module")
def user(workbench: Workbench) -> Iterator[str]:
    """A user whose server is running."""
    password = workbench.installation.secret("user-password")
    with _login(workbench, "keykeeper", password) as browser:
        browser.get("/hub/spawn")
        _until(lambda: browser.get("/user/keykeeper/lab").url.path == "/user/keykeeper/lab")
        assert browser.get("/user/keykeeper/api/kernelspecs").json()["default"] == "edif"
        yield "keykeeper"


def test_wrong_password_is_refused(workbench: Workbench) -> None:
    with _login(workbench, "stranger", "not-the-password") as browser:
        assert browser.get("/hub/home").url.path == "/hub/login"


def test_admin_does_not_enter_with_the_shared_password(workbench: Workbench) -> None:
    with _login(workbench, "admin", workbench.installation.secret("user-password")) as browser:
        assert browser.get("/hub/home").url.path == "/hub/login"


def test_kernels_find_backend_key_and_mirror(workbench: Workbench, user: str) -> None:
    found = _server_environment(workbench, user)
    assert found["NDIF_HOST"] == workbench.installation.url("gateway")
    assert found["HF_ENDPOINT"] == workbench.installation.mirror_url
    assert found["NDIF_API_KEY"] not in {found["JUPYTERHUB_API_TOKEN"], ""}
    headers = {"ndif-api-key": found["NDIF_API_KEY"]}
    known = httpx.get(f"{workbench.installation.url('gateway')}/whoami", headers=headers, timeout=30).json()
    assert known["email"] == user


def test_kernels_key_traces_and_nothing_else(workbench: Workbench, user: str) -> None:
    [scopes] = _kernel_keys(workbench, user)
    assert {scope for scope in scopes if not scope.startswith("read:users:")} == {"custom:edif:trace"}
    key = _server_environment(workbench, user)["NDIF_API_KEY"]
    with httpx.Client(headers={"Authorization": f"token {key}"}, timeout=30) as holder:
        hub = f"{workbench.installation.url('hub')}/hub/api/users/{user}"
        assert holder.get(f"{hub}/tokens").status_code == 403
        assert holder.delete(f"{hub}/server").status_code == 403
        assert holder.get(f"{workbench.installation.url('proxy')}/user/{user}/api/contents").status_code == 403


def test_home_folder_is_closed_to_other_accounts(workbench: Workbench, user: str) -> None:
    home = workbench.installation.hub_dir / "users" / user
    assert home.stat().st_mode & 0o077 == 0
    assert (home / "tutorials" / "00_hello.ipynb").is_file()


def test_key_ends_with_the_server(workbench: Workbench, user: str) -> None:
    key = _server_environment(workbench, user)["NDIF_API_KEY"]
    with _login(workbench, user, workbench.installation.secret("user-password")) as browser:
        xsrf = {"X-XSRFToken": browser.cookies.get("_xsrf", path="/hub/") or ""}
        assert browser.delete(f"/hub/api/users/{user}/server", headers=xsrf).status_code in {202, 204}
    _until(lambda: not _kernel_keys(workbench, user))
    answer = httpx.get(
        f"{workbench.installation.url('hub')}/hub/api/user", headers={"Authorization": f"token {key}"}, timeout=30
    )
    assert answer.status_code == 403
