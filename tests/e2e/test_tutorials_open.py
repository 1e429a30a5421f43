"""Every shipped tutorial in a real JupyterLab, opened by a reader with no kernel: results drawn, solutions folded.

That a notebook runs in the browser is the story of ``test_one_job.py``; that all of them run, ``test_tutorials.py``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.e2e.own_lab import PATIENCE_MS, photograph, serious

from edif.prediction import RESULT_TYPE
from tests import tutorial_files as files

#: Translations have the same outputs and solutions: one of them stands for all.
SHIPPED = [files.FOLDER / f"{name}.ipynb" for name in (*files.names(), "00_hello.de")]


@pytest.fixture(scope="module")
def reader(lab: str, browser: Browser, notebooks: Path) -> Iterator[Page]:
    """A page of JupyterLab that shows the folder; every cell of a notebook is there, also one that is not seen."""
    for path in SHIPPED:
        notebook = nbformat.read(path, as_version=4)
        notebook.metadata.kernelspec = {"name": "gone", "display_name": "Gone", "language": "python"}
        nbformat.write(notebook, notebooks / path.name)
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    chosen = page.request.put(
        f"{lab}/lab/api/settings/@jupyterlab/notebook-extension:tracker",
        data=json.dumps({"raw": json.dumps({"windowingMode": "none"})}),
        headers={"Authorization": "token reader", "Content-Type": "application/json"},
    )
    assert chosen.ok, chosen.text()
    page.goto(f"{lab}/lab?token=reader&reset")
    yield page
    page.close()


def opened(page: Page, name: str) -> Locator:
    """The notebook, opened from the list of files."""
    page.locator(".jp-DirListing-item").filter(has_text=re.compile(rf"^\s*{re.escape(name)}")).dblclick()
    page.get_by_role("dialog").get_by_role("button", name="No Kernel").click()
    notebook = page.locator(".jp-NotebookPanel:visible")
    expect(notebook.locator("h1").first).to_be_visible()
    return notebook


@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_tutorial_is_read_without_a_kernel(reader: Page, path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    results = sum(RESULT_TYPE in output.get("data", {}) for cell in cells for output in cell.get("outputs", []))
    folds = sum(cell.source.count("<details>") for cell in cells if cell.cell_type == "markdown")
    notebook = opened(reader, path.name)
    expect(notebook.locator(".jp-MarkdownCell details")).to_have_count(folds)
    expect(notebook.locator(".edif-card")).to_have_count(results)
    expect(notebook.locator(".edif-problem")).to_have_count(0)
    if results:
        notebook.locator(".edif-card").first.scroll_into_view_if_needed()
        assert serious(reader) == []
    photograph(reader, f"tutorial-{path.stem}", "JupyterLab Light")
    if folds:  # a solution is folded, and opens by keyboard
        fold = notebook.locator(".jp-MarkdownCell details").first
        expect(fold.locator("pre")).to_be_hidden()
        fold.locator("summary").focus()
        reader.keyboard.press("Enter")
        expect(fold.locator("pre")).to_be_visible()
    reader.locator(".lm-TabBar-tab.lm-mod-current:has-text('.ipynb') .lm-TabBar-tabCloseIcon").click()
    expect(reader.locator(".jp-NotebookPanel:visible")).to_have_count(0)
