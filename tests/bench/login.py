"""``edif bench login``: what each step of a university login takes, and what asking the provider again costs.

A hub and its proxy of its own, and the tests' login service on the same machine; no browser, so only the servers count.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.light_hub import LightHub, light_hub
from tests.login_services import PASSWORD, SECRET, LoginService, login_services

_SETTINGS = """
[login]
refresh_s = 1
[[login.issuers]]
id = "alpha"
title = "Alpha"
issuer = "{issuer}"
client_id = "edif"
client_secret = "{secret}"
authorize_parameters = {{ prompt = "consent" }}
allow_everyone = true
"""


def one_login(hub: LightHub, service: LoginService, name: str, took: dict[str, list[float]]) -> None:
    """Log a new person in, noting what each step takes."""
    service.account(name)
    with httpx.Client(follow_redirects=True, timeout=60) as browser:

        def step(what: str, method: str, address: str, **more: Any) -> httpx.Response:
            begun = time.perf_counter()
            answer = browser.request(method, address, **more)
            took[what].append(time.perf_counter() - begun)
            answer.raise_for_status()
            return answer

        step("the hub's login page", "GET", f"{hub.url}/hub/login")
        form = step("to the university's form", "GET", f"{hub.url}/hub/oauth_login?issuer=alpha&next=/hub/edif-keys")
        action = re.findall(r'action="(/form/[^"]*)"', form.text)[0]
        told = {"name": name, "password": PASSWORD}
        step("its form to the hub's page, tokens bought and checked", "POST", f"{service.issuer}{action}", data=told)
        step("a page of the hub", "GET", f"{hub.url}/hub/edif-keys")
        time.sleep(1.05)
        step("a page of the hub, the provider asked again", "GET", f"{hub.url}/hub/edif-keys")


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(prog="edif bench login", description=__doc__)
    parser.add_argument("--people", type=int, default=15)
    parser.add_argument("--json", action="store_true", help="one object of figures as the last line")
    arguments = parser.parse_args()
    took: dict[str, list[float]] = defaultdict(list)
    with light_hub("bench-login") as hub, login_services(hub.url) as services:
        hub.configure(_SETTINGS.format(issuer=services["alpha"].issuer, secret=SECRET))
        hub.start()
        for number in range(arguments.people):
            one_login(hub, services["alpha"], f"person{number}", took)
    figures = {what: statistics.median(seconds) for what, seconds in took.items()}
    if arguments.json:
        print(json.dumps(figures))
        return
    table = Table("step", "seconds, median")
    for what, seconds in figures.items():
        table.add_row(what, f"{seconds:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
