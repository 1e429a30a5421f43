"""``edif bench hub``: user servers: memory, twenty at once, what a death costs, and from login to the first trace.

The first three on a hub of its own in a folder that is removed (proxy, hub, housekeeping and gateway under the real
supervisor, real JupyterLab servers); the last on the workbench that is up, as a browser and a kernel would do it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import websocket

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.hub_alone import ROLES, HubAlone, hub_alone, until

from edif_backend.models.catalogue import write_default
from edif_protocol.installation import Installation

CELLS = {
    "kernel started": "",
    "nnsight imported": "from nnsight import TransformersModel",
    "model built (config and tokenizer from the mirror)": (
        "model = TransformersModel('edif/smollm2-135m-demo', task='text-generation')"
    ),
    "first trace": (
        "with model.trace('The Eiffel Tower is in the city of'):\n    logits = model.output.logits[0, -1].save()\n"
        "assert model.tokenizer.decode(logits.argmax()) == ' Paris'"
    ),
    "second trace": "with model.trace('The Eiffel Tower is in the city of'):\n    logits = model.output.logits.save()",
}


def server_processes(hub: HubAlone) -> list[psutil.Process]:
    """The user servers of this installation."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        ours = "edif_hub.user_server" in (process.info["cmdline"] or ())
        if ours and process.environ().get("EDIF_HOME") == str(hub.installation.home):
            found.append(process)
    return found


def starts(hub: HubAlone, count: int) -> dict[str, Any]:
    """``count`` people ask for their servers at the same moment."""
    people = [f"bench{number}" for number in range(count)]

    def start(person: str) -> float:
        with hub.browser(person) as browser:
            began = time.monotonic()
            hub.start(browser, person, patience_s=900)
            return time.monotonic() - began

    began, cpu = time.monotonic(), psutil.cpu_times()
    with ThreadPoolExecutor(count) as class_:
        took = sorted(class_.map(start, people))
    spent = psutil.cpu_times()
    memory = [process.memory_full_info() for process in server_processes(hub)]
    return {
        "starts": count,
        "running": len(memory),
        "all_there_s": time.monotonic() - began,
        "first_s": took[0],
        "median_s": statistics.median(took),
        "last_s": took[-1],
        "machine_cpu_s": spent.user + spent.system - cpu.user - cpu.system,
        "server_rss_mib": statistics.median(one.rss for one in memory) / 1024**2,
        "server_uss_mib": statistics.median(one.uss for one in memory) / 1024**2,
    }


def gap_s(answers: Any) -> float:
    """Seconds from now until nothing is lost any more: from the first failure to the first answer after the last."""
    began, failed_at, back_at = time.monotonic(), 0.0, 0.0
    while time.monotonic() < began + 60:
        now = time.monotonic()
        if not answers():
            failed_at, back_at = failed_at or now, 0.0
        elif failed_at and not back_at:
            back_at = now
        if back_at and now > back_at + 1:
            return back_at - failed_at
        if not failed_at and now > began + 15:
            return 0.0
        time.sleep(0.02)
    raise SystemExit("it did not come back within a minute")


def deaths(hub: HubAlone, kills: int) -> dict[str, Any]:
    """What somebody in a notebook, and somebody on the hub's pages, misses when a process is killed."""
    ways = {
        "proxy, seen from a notebook": ("proxy", "/user/bench0/api"),
        "hub, seen from a notebook": ("hub", "/user/bench0/api"),
        "hub, seen from its own pages": ("hub", "/hub/api/"),
        "gateway, seen through its address": ("gateway", ""),
    }
    found: dict[str, Any] = {}
    for name, (role, path) in ways.items():
        gaps = []
        for _ in range(kills):
            until(hub.answers, "the hub")
            hub.kill(role)
            gaps.append(gap_s((lambda path=path: hub.answers(path)) if path else lambda: _pings(hub)))
            time.sleep(4)  # the supervisor takes what dies within three seconds for broken
        found[name] = {"median_s": statistics.median(gaps), "longest_s": max(gaps), "kills": kills}
    return found


def _pings(hub: HubAlone) -> bool:
    try:
        return httpx.get(f"{hub.installation.url('gateway')}/ping", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class Kernel:
    """A kernel in a user's server, spoken to as JupyterLab does."""

    def __init__(self, browser: httpx.Client, user: str) -> None:
        root = f"/user/{user}"
        xsrf = next(c.value for c in browser.cookies.jar if (c.name, c.path) == ("_xsrf", f"{root}/"))
        made = browser.post(f"{root}/api/kernels", json={"name": "edif"}, headers={"X-XSRFToken": xsrf or ""})
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.cookies.jar)
        address = str(browser.base_url).replace("http", "ws", 1) + f"{root}/api/kernels/{made.json()['id']}/channels"
        self._line = websocket.create_connection(address, cookie=cookies, timeout=300)

    def run(self, code: str) -> None:
        """Run a cell to its end."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "s"}
        message = {
            "header": {**header, "version": "5.3"},
            "parent_header": {},
            "metadata": {},
            "channel": "shell",
            "content": {"code": code, "silent": False},
        }
        self._line.send(json.dumps(message))
        while True:
            heard = json.loads(self._line.recv())
            if heard["parent_header"].get("msg_id") != header["msg_id"]:
                continue
            if heard["header"]["msg_type"] == "execute_reply":
                assert heard["content"]["status"] == "ok", heard["content"]
                return


def journey(installation: Installation) -> dict[str, float]:
    """From the login to the first trace, in seconds of each step."""
    hub, user, steps = HubAlone(installation), f"journey{os.getpid()}", {}
    if not hub.answers():
        raise SystemExit("The workbench is not up: ./edif up --detach first, or leave --journey out.")
    began = time.monotonic()

    def step(name: str) -> None:
        nonlocal began
        now = time.monotonic()
        steps[name], began = now - began, now

    with hub.browser(user) as browser:
        step("logged in")
        hub.start(browser, user)
        step("server started, first notebook's page there")
        kernel = Kernel(browser, user)
        for name, code in CELLS.items():
            kernel.run(code)
            step(name)
        with hub.api() as api:
            api.delete(f"/users/{user}/server")
    return steps


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20, help="people who ask for a server at once; 0: leave out")
    parser.add_argument("--kills", type=int, default=3, help="deaths of each kind; 0: leave out")
    parser.add_argument("--journey", action="store_true", help="also from login to first trace, on the workbench")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures: dict[str, Any] = {"load_average_before": os.getloadavg()[0], "cores": os.cpu_count()}
    if asked.starts or asked.kills:
        home = Path(tempfile.mkdtemp(prefix="edif-bench-hub-"))
        own = Installation(home=home, host="127.0.0.1", port=23400 + os.getpid() % 100 * 5)
        write_default(own.models_file)
        try:
            with hub_alone(own, (*ROLES, "gateway")) as hub:
                if asked.starts:
                    figures["starts"] = starts(hub, asked.starts)
                else:
                    starts(hub, 1)
                if asked.kills:
                    figures["deaths"] = deaths(hub, asked.kills)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    if asked.journey:
        figures["journey_s"] = journey(Installation())
    figures["load_average_after"] = os.getloadavg()[0]
    print(json.dumps(figures) if asked.json else json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
