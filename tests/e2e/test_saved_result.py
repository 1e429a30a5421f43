"""A saved notebook shows its results in a real JupyterLab with no kernel: what a reader of somebody's notebook sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from playwright.sync_api import Browser, Page, expect
from tests.e2e.gallery import KINDS, PARIS
from tests.e2e.own_lab import PATIENCE_MS, RESULTS, keep, photograph, serious

import edif
from edif.prediction import RESULT_TYPE

HOSTILE = {"kind": "lens", "title": "<img src=x onerror=\"document.title='owned'\">"}


def saved_notebook(path: Path) -> None:
    """A notebook with one result that can be drawn and one that cannot, never executed here."""
    keep(path, [PARIS._repr_mimebundle_(), {RESULT_TYPE: HOSTILE, "text/plain": "a result"}])


@pytest.fixture(scope="module")
def opened(lab: str, browser: Browser, notebooks: Path) -> Callable[..., Page]:
    """Opens the saved notebook in a theme, with no kernel, in a fresh browser context."""
    saved_notebook(notebooks / "saved.ipynb")
    for name in ("lens", "patching", "trace"):
        keep(notebooks / f"{name}.ipynb", [edif.load(RESULTS / f"{name}.edif")._repr_mimebundle_()])
    # in one cell, for JupyterLab draws cells only where they are seen
    outputs = [new_output("display_data", make()) for make in KINDS.values()]
    nbformat.write(new_notebook(cells=[new_code_cell("…", outputs=outputs)]), notebooks / "every.ipynb")

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

    return show


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_saved_result_is_drawn(opened: Callable[..., Page], theme: str) -> None:
    page = opened(theme)
    table = page.get_by_role("grid", name="Next token, edif/smollm2-135m-demo")
    expect(table.get_by_role("rowheader")).to_have_text(["␣Paris", "␣Rome", "↵"])
    expect(table.get_by_role("row").nth(1)).to_contain_text("0.656")
    photograph(page, "saved-result", theme)
    page.close()


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
    expect(page.locator(".edif-panel")).to_contain_text("␣to · layer 29effect+1.000")
    expect(grid.get_by_role("gridcell", name="␣to, layer 29, +1.000, pinned")).to_be_visible()
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


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_every_kind_is_drawn_in_one_notebook_and_views_leave_each_other_alone(
    opened: Callable[..., Page], theme: str
) -> None:
    page = opened(theme, "every")
    outputs = page.locator(".jp-OutputArea-child")
    expect(outputs).to_have_count(len(KINDS))
    for n, kind in enumerate(KINDS):
        expect(outputs.nth(n).locator(".edif-card").first, kind).to_be_visible()
    assert page.locator(".edif-problem").count() == 0
    assert serious(page) == []
    lens, both = (outputs.nth([*KINDS].index(kind)) for kind in ("lens", "side-by-side"))
    lens.locator('td[tabindex="0"]').focus()
    page.keyboard.press("Enter")
    expect(lens.locator(".edif-pinned")).to_have_text(["␣Paris"] * 3)
    assert both.locator(".edif-pinned").count() == 0
    page.keyboard.press("m")
    expect(lens.locator(".edif-card")).to_have_attribute("data-metric", "rank")
    # two side by side go together, and with nothing else
    expect(both.locator('.edif-card[data-metric="probability"]')).to_have_count(2)
    both.get_by_role("button", name="entropy").first.click()
    expect(both.locator('.edif-card[data-metric="entropy"]')).to_have_count(2)
    expect(lens.locator(".edif-card")).to_have_attribute("data-metric", "rank")
    series = outputs.nth([*KINDS].index("series"))
    expect(series.locator(".edif-setting")).to_have_text("window 1")
    series.get_by_role("slider", name="window").focus()
    page.keyboard.press("ArrowRight")
    expect(series.locator(".edif-setting")).to_have_text("window 5")
    assert page.locator(".jp-MarkdownCell").count() == 0
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
