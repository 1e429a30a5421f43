"""Many user servers on a real hub: twenty at once, refusals that say what to do, deaths that cost nothing.

The servers are light ones (`tests/light_server.py`); what a real one does is in `test_user_server.py`.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from tests.conftest import installation
from tests.hub_alone import HubAlone, hub_alone, until

from edif_protocol.audit_log import AuditLog

LIGHT = Path(__file__).resolve().parents[1] / "light_server.py"
#: A server of somebody whose name begins with "brief" ends at once.
START = 'case "$USER" in brief*) exit 3;; *) exec "$0" "$1";; esac'
SETTINGS = f"""
[hub]
traces_url = "https://traces.example.org"
[servers]
starts_at_once = 2
look_s = 1
[servers.options]
cmd = ["sh", "-c", {json.dumps(START)}, "{sys.executable}", "{LIGHT}"]
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[HubAlone]:
    with installation("servers") as installed:
        installed.installation.config_file.write_text(SETTINGS)
        with hub_alone(installed.installation) as running:
            yield running


def _start(hub: HubAlone, user: str) -> list[str]:
    """Start a server as a browser without scripts does; gives all that the waiting page said."""
    said: list[str] = []
    with hub.browser(user) as browser:
        answer = browser.get("/hub/spawn")
        deadline = time.monotonic() + 200
        while not answer.url.path.startswith(f"/user/{user}/"):
            assert answer.status_code == 200, answer.text[-3000:]
            assert time.monotonic() < deadline, said
            words = answer.text.partition('role="status">')[2].partition("<")[0]
            said += [words] if words not in said[-1:] else []
            time.sleep(0.4)
            answer = browser.get(f"/hub/spawn-pending/{user}")
        assert answer.text == f"server of {user}"
    return said


def _pids(hub: HubAlone) -> set[int]:
    home = str(hub.installation.home)
    found = set()
    for process in psutil.process_iter(["cmdline"]):
        if str(LIGHT) in (process.info["cmdline"] or ()) and process.environ().get("EDIF_HOME") == home:
            found.add(process.pid)
    return found


@pytest.mark.timeout(300)
def test_twenty_at_once_all_get_a_server_and_are_told_their_place(hub: HubAlone) -> None:
    students = [f"student{number}" for number in range(20)]
    with ThreadPoolExecutor(len(students)) as class_:
        said = list(class_.map(lambda student: _start(hub, student), students))
    assert len(_pids(hub)) == 20
    waited = [words for words in said if any("Many servers are starting" in one for one in words)]
    assert len(waited) >= 10  # two begin at once, and logging in takes its time
    assert any("people are before you" in one for words in waited for one in words)


def test_servers_outlive_hub_and_proxy_and_are_reached_again(hub: HubAlone) -> None:
    with hub.browser("survivor") as browser:
        hub.start(browser, "survivor")
        before = _pids(hub)
        for role in ("proxy", "hub", "proxy", "housekeeping"):
            killed = hub.kill(role)
            until(lambda role=role, killed=killed: hub.pid(role) not in (0, killed), f"another {role}")
            # The hub by itself would look after its routes in five minutes.
            until(lambda: hub.answers("/user/survivor/api"), f"the route after the death of the {role}", 100)
            until(hub.answers, f"the hub after the death of the {role}")
        assert _pids(hub) == before
        assert browser.get("/hub/spawn").text == "server of survivor"  # adopted: it is not started again


def test_a_size_that_is_not_there_is_refused_with_those_that_are(hub: HubAlone) -> None:
    with hub.browser("picky") as browser:
        refused = browser.get("/hub/spawn?opt-profile=huge")
        assert refused.status_code == 400
        assert "There is no server size “huge”; there are: small, medium." in refused.text
        home = browser.get("/hub/home").text
        assert "Medium: for large results" in home
        assert "sizes are not enforced" in home
        answer = browser.get("/hub/spawn?opt-profile=medium")
        until(lambda: hub.server("picky") is not None, "its server")
    assert answer.status_code == 200
    found = hub.server("picky")
    assert found is not None
    assert found["user_options"] == {"profile": "medium"}


def test_a_server_that_ends_at_once_is_told_of_and_holds_no_turn(hub: HubAlone) -> None:
    with hub.browser("brief") as browser:
        for _ in range(3):  # more often than there are turns
            answer = browser.get("/hub/spawn")
            deadline = time.monotonic() + 60  # a start may take three minutes
            while answer.status_code == 200:
                assert time.monotonic() < deadline, answer.text[-2000:]
                time.sleep(0.2)
                answer = browser.get("/hub/spawn-pending/brief")
            assert answer.status_code == 500
            assert "Your server ended right after its start. Try again" in answer.text


def test_no_key_outlives_what_the_operator_allows(hub: HubAlone) -> None:
    with hub.browser("keyholder") as browser:
        page = browser.get("/hub/edif-keys").text
        assert re.findall(r'<option value="(\d+)"', page) == ["1", "7", "30", "90"]
        proof = re.search(r'name="_xsrf" value="([^"]*)"', page)
        assert proof
        refused = browser.post("/hub/edif-keys", data={"_xsrf": proof[1], "days": "365", "note": "for ever"})
        assert "Choose how long the key shall live" in refused.text
        assert "NDIF_API_KEY" not in refused.text
        token = browser.cookies.get("_xsrf", path="/hub/") or ""
        asked = {"expires_in": 91 * 86400, "note": "by hand"}
        api = browser.post("/hub/api/users/keyholder/tokens", json=asked, headers={"X-XSRFToken": token})
        assert api.status_code == 400


def test_a_new_key_comes_with_the_address_for_machines_elsewhere(hub: HubAlone) -> None:
    with hub.browser("keyholder") as browser:
        proof = re.search(r'name="_xsrf" value="([^"]*)"', browser.get("/hub/edif-keys").text)
        assert proof
        made = browser.post("/hub/edif-keys", data={"_xsrf": proof[1], "days": "7", "note": "laptop"}).text
    assert "export NDIF_HOST=https://traces.example.org\n" in made
    assert "export HF_ENDPOINT=https://traces.example.org/hf" in made
    assert "tunnel" not in made


def test_a_stopped_servers_page_says_where_results_are(hub: HubAlone) -> None:
    with hub.browser("gone") as browser:
        page = browser.get("/user/gone/lab")
        assert page.status_code == 424
        assert "Your server is not running" in page.text
        assert "edif.jobs()" in page.text


def test_the_proxys_token_gets_routes_sent_and_nothing_else(hub: HubAlone) -> None:
    with hub.api("proxy-routes-token") as api:
        assert api.post("/proxy").status_code == 200
        assert api.get("/users").status_code == 403
    with hub.api("housekeeping-token") as api:
        assert api.get("/users").status_code == 200
        assert api.post("/users/somebody").status_code == 403
        assert api.post("/users/survivor/tokens", json={}).status_code == 403


def test_nobody_else_can_have_routes_sent(hub: HubAlone) -> None:
    assert httpx.post(f"{hub.installation.url('hub')}/hub/api/proxy").status_code == 403


def test_operators_stop_servers_and_end_keys_on_a_page_of_their_own(hub: HubAlone) -> None:
    with hub.browser("owner") as browser:
        hub.start(browser, "owner")
        assert browser.get("/hub/edif-people").status_code == 403
    with hub.browser("admin") as operator:
        page = operator.get("/hub/edif-people")
        assert page.status_code == 200
        row = page.text.partition('data-person="owner"')[2].partition("</tr>")[0]
        assert "runs" in row
        assert "1 keys of owner" in row  # that of the server's kernels
        proof = re.search(r'name="_xsrf" value="([^"]*)"', page.text)
        assert proof
        form = {"_xsrf": proof[1], "user": "owner"}
        assert operator.post("/hub/edif-people", data={**form, "_xsrf": "x", "act": "server.stop"}).status_code == 403
        ended = operator.post("/hub/edif-people", data={**form, "act": "key.end", "key": "all"})
        assert "1 keys of owner are ended." in ended.text
        stopped = operator.post("/hub/edif-people", data={**form, "act": "server.stop"})
        assert "The server of owner is stopped." in stopped.text
        until(lambda: hub.server("owner") is None, "the end of the server")
        assert (
            "There is nobody named nobody." in operator.post("/hub/edif-people", data={**form, "user": "nobody"}).text
        )
    acts = [(act["by"], act["act"]) for act in AuditLog(hub.installation.audit_dir).newest(9) if act["on"] == "owner"]
    assert {("owner", "server.start"), ("admin", "key.end"), ("admin", "server.stop")} <= set(acts)
