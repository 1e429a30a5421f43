"""A saved notebook shows its results in a real JupyterLab with no kernel: what a reader of somebody's notebook sees."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Page, expect, sync_playwright

import edif
from edif.prediction import RESULT_TYPE, NextTokens
from edif_widgets import labextension_path

CHROMIUM = Path("/usr/bin/chromium")
QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()
SCREENSHOTS = Path(__file__).parents[2] / ".artifacts" / "screenshots"
PATIENCE_MS = 45_000

#: Made by the class that users' results are made by: this test holds kernel and front end together.
PARIS = NextTokens(
    ids=np.array([7042, 12057, 198]),
    tokens=(" Paris", " Rome", "\n"),
    probabilities=np.array([0.656, 0.038, 0.0001]),
    logits=np.array([18.42, 15.57, 9.6]),
    title="Next token",
    provenance={
        "model": "edif/smollm2-135m-demo",
        "dtype": "float32",
        "bos": False,
        "prompt": "The Eiffel Tower is in the city of",
    },
    foot="1 forward · 0.3 s on the server · 12 KB received",
)
#: Results of the demo model, as `save` wrote them: real numbers, and files of the first version to be read for ever.
RESULTS = Path(__file__).parent / "results"
AXE = Path(__file__).parents[2] / "extensions" / "node_modules" / "axe-core" / "axe.min.js"
HOSTILE = {"kind": "lens", "title": "<img src=x onerror=\"document.title='owned'\">"}


def saved_notebook(path: Path) -> None:
    """A notebook with one result that can be drawn and one that cannot, never executed here."""
    keep(path, [PARIS._repr_mimebundle_(), {RESULT_TYPE: HOSTILE, "text/plain": "a result"}])


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
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A JupyterLab of its own, without hub and kernel; gives its address."""
    needed((labextension_path() / "edif-widgets").is_dir(), "the front end is not built: run extensions/build.sh")
    home = tmp_path_factory.mktemp("lab")
    notebooks = home / "notebooks"
    notebooks.mkdir()
    saved_notebook(notebooks / "saved.ipynb")
    for result in RESULTS.glob("*.edif"):
        keep(notebooks / f"{result.stem}.ipynb", [edif.load(result)._repr_mimebundle_()])
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
            env={**kept, "HOME": str(home), "JUPYTER_PREFER_ENV_PATH": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
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
def opened(lab: str) -> Iterator[Callable[..., Page]]:
    """Opens the saved notebook in a theme, with no kernel, in a fresh browser context."""
    needed(CHROMIUM.exists(), "Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)

        def show(theme: str, notebook: str = "saved") -> Page:
            page = browser.new_page(viewport={"width": 1500, "height": 900})
            chosen = page.request.put(
                f"{lab}/lab/api/settings/@jupyterlab/apputils-extension:themes",
                data=json.dumps({"raw": json.dumps({"theme": theme})}),
                headers={"Authorization": "token reader", "Content-Type": "application/json"},
            )
            assert chosen.ok, chosen.text()
            page.goto(f"{lab}/lab/tree/{notebook}.ipynb?token=reader&reset")
            page.get_by_role("dialog").get_by_role("button", name="No Kernel").click(timeout=PATIENCE_MS)
            expect(page.locator(".edif-card").first).to_be_visible(timeout=PATIENCE_MS)
            return page

        yield show
        browser.close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_saved_result_is_drawn(opened: Callable[..., Page], theme: str) -> None:
    page = opened(theme)
    table = page.get_by_role("grid", name="Next token, edif/smollm2-135m-demo")
    expect(table.get_by_role("rowheader")).to_have_text(["␣Paris", "␣Rome", "↵"])
    expect(table.get_by_role("row").nth(1)).to_contain_text("0.656")
    photograph(page, "saved-result", theme)
    page.close()


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


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_saved_lens_is_read_with_no_kernel(opened: Callable[..., Page], theme: str) -> None:
    page = opened(theme, "lens")
    grid = page.get_by_role("grid", name="Logit lens")
    expect(grid.get_by_role("columnheader")).to_have_text(
        ["layer", "The", "␣E", "iffel", "␣Tower", "␣is", "␣in", "␣the", "␣city", "␣of"]
    )
    final = grid.get_by_role("gridcell", name="␣Paris, layer 29, ␣of, probability 0.656")
    expect(final).to_have_css("font-weight", "700")
    assert page.locator(".edif-grid").evaluate("grid => grid.scrollWidth <= grid.clientWidth"), "tokens are cut"
    assert serious(page) == []
    final.focus()
    page.keyboard.press("Enter")
    expect(grid.locator(".edif-pinned")).to_have_text(["␣Paris"] * 3)
    photograph(page, "lens", theme)
    page.keyboard.press("m")
    expect(page.locator(".edif-legend")).to_contain_text("rank of ␣Paris")
    for _ in range(6):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(grid.get_by_role("rowheader", name="23", exact=True)).to_be_visible()
    page.keyboard.press("t")
    expect(page.locator(".edif-plain").get_by_role("row")).to_have_count(31)
    assert page.locator(".jp-MarkdownCell").count() == 0
    page.close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_saved_patching_map_is_read_with_no_kernel(opened: Callable[..., Page], theme: str) -> None:
    page = opened(theme, "patching")
    grid = page.get_by_role("grid", name="Activation patching: effect on logit difference, residual, denoise")
    expect(grid.get_by_role("row")).to_have_count(31)
    expect(page.locator(".edif-panel")).to_contain_text("clean, logit difference+6.120")
    expect(grid.locator(".edif-marked")).to_have_text("␣Mary")
    assert serious(page) == []
    photograph(page, "patching", theme)
    # the effect moves from the second name to the last token
    expect(grid.get_by_role("gridcell", name="␣Mary, layer 15, +1.013")).to_be_visible()
    grid.locator('[tabindex="0"]').focus()
    for key in ("End", "PageUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator(".edif-panel")).to_contain_text("pinned: ␣to · layer 29effect+1.000")
    page.get_by_role("button", name="noise", exact=True).click()
    expect(page.get_by_role("grid", name="residual, noise").locator(".edif-marked")).to_have_text("␣John")
    page.close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_saved_trace_is_read_with_no_kernel(opened: Callable[..., Page], theme: str) -> None:
    page = opened(theme, "trace")
    grid = page.get_by_role("grid", name="Causal trace")
    expect(grid.get_by_role("gridcell")).to_have_count(270)
    assert serious(page) == []
    photograph(page, "trace", theme)
    grid.locator('[tabindex="0"]').focus()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="mlp")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".edif-panel")).to_contain_text("window of 10 layers")
    assert grid.locator('[tabindex="0"]').evaluate("cell => cell === document.activeElement")
    page.close()


def test_keys_belong_to_the_result(opened: Callable[..., Page]) -> None:
    page = opened("JupyterLab Light")
    rows = page.locator(".edif-card tbody tr")
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    expect(rows.nth(1)).to_be_focused()
    page.keyboard.press("m")
    expect(page.locator(".edif-card").first).to_have_attribute("data-metric", "logit")
    # In a notebook `m` turns the cell into Markdown: its output, and the result with it, would be gone.
    assert page.locator(".jp-MarkdownCell").count() == 0
    page.close()


def test_unknown_result_says_so(opened: Callable[..., Page]) -> None:
    page = opened("JupyterLab Light")
    problem = page.locator(".edif-problem")
    expect(problem.locator("p")).to_contain_text("does not know the kind of result “lens”")
    expect(problem.locator("pre")).to_be_hidden()
    problem.locator("summary").click()
    expect(problem.locator("pre")).to_contain_text("onerror")
    assert "owned" not in page.title()
    page.close()
