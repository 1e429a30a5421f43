"""A JupyterLab of the tests' own, without hub and backend, and a browser to look at it: what a reader of notebooks has.

The fixtures are those of test_saved_result.py and test_live_views.py; conftest.py hands them on.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Browser, Page, sync_playwright

from edif_widgets import labextension_path

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
SCREENSHOTS = Path(__file__).parents[2] / ".artifacts" / "screenshots"
PATIENCE_MS = 45_000
#: Where the eDIF kernel describes itself.
KERNELS = Path(__file__).parents[2] / "kernels" / "edif_kernel" / "jupyter"

#: Results of the demo model, as `save` wrote them: real numbers, and files of the first version to be read for ever.
RESULTS = Path(__file__).parent / "results"
AXE = Path(__file__).parents[2] / "extensions" / "node_modules" / "axe-core" / "axe.min.js"


def keep(path: Path, bundles: list[dict[str, Any]]) -> None:
    """A notebook with these outputs."""
    cells = [new_code_cell("…", outputs=[new_output("display_data", bundle)]) for bundle in bundles]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": {"name": "gone", "display_name": "Gone"}}), path)


def free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port: int = trial.getsockname()[1]
    return port


def wait_until_serving(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    while process.poll() is None:
        try:
            httpx.get(url, timeout=5)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"JupyterLab ended:\n{log.read_text()[-2000:]}")


def needed(present: bool, mend: str) -> None:
    if present:
        return
    if os.environ.get("CI"):
        pytest.fail(mend)
    pytest.skip(mend)


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the JupyterLab of these tests shows."""
    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def lab(notebooks: Path) -> Iterator[str]:
    """A JupyterLab of its own, without hub; gives its address."""
    needed((labextension_path() / "edif-widgets").is_dir(), "the front end is not built: run extensions/build.sh")
    home = notebooks.parent
    address = f"http://127.0.0.1:{(port := free_port())}"
    foreign = ("JUPYTER", "EDIF_", "NDIF_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    options = {
        "--ServerApp.port": str(port),
        "--ServerApp.port_retries": "0",
        "--ServerApp.root_dir": str(notebooks),
        "--IdentityProvider.token": "reader",
        "--LabApp.extra_labextensions_path": str(labextension_path()),
        "--LabApp.news_url": "",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    log = home / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*command, *(f"{name}={value}" for name, value in options.items())],
            env={**kept, "HOME": str(home), "JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PATH": str(KERNELS)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=home,  # where it keeps what is edited together
        )
        try:
            wait_until_serving(f"{address}/api", process, log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:  # it waits for pages that are gone
                process.kill()
                process.wait(timeout=30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all of these tests."""
    needed(CHROMIUM.exists(), "Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def photograph(page: Page, name: str, theme: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}-{theme.rsplit(maxsplit=1)[-1].lower()}.png")


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical about results."""
    if not AXE.exists():
        pytest.fail("axe-core is missing, so nobody has looked at the views: run extensions/build.sh")
    page.add_script_tag(path=AXE)
    found: dict[str, Any] = page.evaluate("() => axe.run('.edif-card')")
    assert len(found["passes"]) > 10, "axe has looked at nothing"
    return [
        f"{one['id']}: {one['nodes'][0]['html']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
