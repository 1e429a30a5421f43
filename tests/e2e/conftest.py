"""A real browser for the end-to-end tests: Debian's Chromium, driven by playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from tests.conftest import skip
from tests.e2e.login_steps import configure
from tests.e2e.own_lab import browser, lab, notebooks  # noqa: F401 (fixtures)
from tests.light_hub import LightHub, light_hub
from tests.login_services import SECRET, LoginService, login_services
from tests.services import NotInstalled

CHROMIUM = "/usr/bin/chromium"
SCREENSHOTS = Path(__file__).resolve().parents[2] / ".artifacts" / "screenshots"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --disable-dev-shm-usage"
)
#: For each step; a machine with other work to do is slow.
_PATIENCE_MS = 120_000


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--write-pictures``: see test_gallery.py."""
    parser.addoption("--write-pictures", action="store_true", help="make the pictures of docs/gallery.md anew")


@pytest.fixture
def page() -> Iterator[Page]:
    """An empty page of a browser that knows nobody."""
    if shutil.which(CHROMIUM) is None:
        if "CI" in os.environ:
            pytest.fail("Chromium is missing: apt-get install chromium")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        yield page
        browser.close()


@pytest.fixture
def screenshots() -> Path:
    """Where pictures of what a user sees are kept."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS


@pytest.fixture(scope="session")
def services_and_hub() -> Iterator[tuple[dict[str, LoginService], LightHub]]:
    try:
        with light_hub("login") as hub, login_services(hub.url, hub.url_by_name) as services:
            for id in services:
                path = hub.installation.home / "secrets" / f"login-{id}"
                path.parent.mkdir(mode=0o700, exist_ok=True)
                path.write_text(SECRET)
                path.chmod(0o600)
            configure(hub, services)
            hub.start()
            yield services, hub
    except NotInstalled as missing:
        skip(missing)


@pytest.fixture
def hub(services_and_hub: tuple[dict[str, LoginService], LightHub]) -> LightHub:
    return services_and_hub[1]


@pytest.fixture
def alpha(services_and_hub: tuple[dict[str, LoginService], LightHub]) -> LoginService:
    return services_and_hub[0]["alpha"]


@pytest.fixture
def beta(services_and_hub: tuple[dict[str, LoginService], LightHub]) -> LoginService:
    return services_and_hub[0]["beta"]


@pytest.fixture(scope="module")
def login_browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        skip(NotInstalled("Chromium is not installed: apt-get install chromium"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def new_page(login_browser: Browser) -> Iterator[Callable[[], Page]]:
    """Makes pages, each of a browser that knows nobody."""
    contexts: list[BrowserContext] = []

    def make() -> Page:
        contexts.append(login_browser.new_context(viewport={"width": 1100, "height": 700}))
        page = contexts[-1].new_page()
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        return page

    yield make
    for context in contexts:
        context.close()
