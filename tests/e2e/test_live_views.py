"""Views alive: pages of their own, and a run that is followed, cancelled and followed up in a real JupyterLab."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Locator, Page, expect
from tests.e2e.gallery import KINDS
from tests.e2e.own_lab import RESULTS, keep, photograph, serious

import edif
from edif_widgets.notebook_pages import Views


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_of_their_own_need_no_network(browser: Browser, tmp_path: Path, scheme: Any) -> None:
    lens = edif.load(RESULTS / "lens.edif")
    lens.to_html(tmp_path / "lens.html")
    keep(tmp_path / "all.ipynb", [make() for make in KINDS.values()])
    html, _ = HTMLExporter(preprocessors=[Views], mathjax_url="", require_js_url="").from_filename(
        str(tmp_path / "all.ipynb")
    )
    (tmp_path / "all.html").write_text(html, "utf-8")
    frame = (tmp_path / "lens.html").read_text("utf-8").replace("&", "&amp;").replace('"', "&quot;")
    (tmp_path / "framed.html").write_text(
        f'<html lang="en"><title>framed</title><iframe sandbox="allow-scripts" srcdoc="{frame}"></iframe></html>',
        "utf-8",
    )
    page = browser.new_page(viewport={"width": 1300, "height": 900}, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "lens.html").as_uri())
    expect(page.get_by_role("gridcell", name="␣Paris, layer 29, ␣of, probability 0.656")).to_be_visible()
    assert serious(page) == []
    photograph(page, "page", scheme)
    page.keyboard.press("Tab")
    page.get_by_role("gridcell", name="␣Paris, layer 29, ␣of").focus()
    for key in ("Enter", "e"):
        page.keyboard.press(key)
    with page.expect_download() as download:
        page.get_by_role("menuitem", name="JSON").click()
    kept = json.loads(download.value.path().read_text("utf-8"))
    assert kept["view"]["pins"] == [7042]
    assert {**kept, "view": {}} == lens.as_json()
    for form, head in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        page.keyboard.press("e")
        with page.expect_download() as download:
            page.get_by_role("menuitem", name=form).click()
        assert download.value.path().read_bytes().startswith(head)

    page.goto((tmp_path / "all.html").as_uri())
    expect(page.locator("[data-edif]")).to_have_count(len(KINDS))
    for n, kind in enumerate(KINDS):
        expect(page.locator("[data-edif]").nth(n).locator(".edif-card").first, kind).to_be_visible()
    assert page.locator(".edif-problem").count() == 0
    photograph(page, "nbconvert", scheme)
    page.goto((tmp_path / "framed.html").as_uri())
    expect(page.frame_locator("iframe").get_by_role("grid", name="Logit lens")).to_be_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))] == []
    page.close()


#: A model of this kernel's own, so that no workbench has to run; slow enough to be seen and to be cancelled.
LIVE = """
import time, torch, edif
from nnsight import TransformersModel
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
torch.set_num_threads(1)
words = "When Mary and John went to the store gave a drink <unk>".split()
table = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
table.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=table, unk_token="<unk>", name_or_path="a tiny model")
torch.manual_seed(0)
sizes = {"vocab_size": 12, "n_embd": 16, "n_layer": 6, "n_head": 2, "n_positions": 32, "initializer_range": 0.3}
config = GPT2Config(bos_token_id=None, eos_token_id=None, **sizes)
model = TransformersModel(GPT2LMHeadModel(config).eval(), tokenizer=tokenizer, task="text-generation")
seconds = 3

def slow(logits):
    time.sleep(seconds)
    return logits[:, 1]

pair = [f"When Mary and John went to the store {name} gave a drink to" for name in ("John", "Mary")]

def run():
    return edif.activation_patching(model, *pair, ("Mary", "John"), metric=slow, batch_tokens=13)
"""
#: Estimates, and the same cells out of whole maps that are patched exactly.
ESTIMATES = """
found = edif.attribution_patching(model, *pair, ("Mary", "John"), sites=["head", "mlp"], progress=False)
found
"""
EXACTLY = """
whole = edif.activation_patching(model, *pair, ("Mary", "John"), sites=["head", "mlp"], progress=False)
for site, layer, position, head, _ in found.top(10):
    value = whole.effect(site)[0].sel(layer=layer)[position]
    print(float(value if head is None else value[head]))
"""
PATIENCE = {"timeout": 240_000.0}


def opened(lab: str, browser: Browser, notebook: Path, cells: list[str]) -> Page:
    """A page with a new notebook of these cells, its kernel ready."""
    known = {"kernelspec": {"name": "edif", "display_name": "eDIF"}}
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=known), notebook)
    page = browser.new_page(viewport={"width": 1500, "height": 1100})
    page.set_default_timeout(240_000)
    choose = page.get_by_role("dialog").get_by_role("button", name="Select", exact=True)
    page.add_locator_handler(choose, lambda button: button.click())
    page.goto(f"{lab}/lab/tree/{notebook.name}?token=reader&reset")
    expect(page.locator(".jp-CodeCell")).to_have_count(len(cells), **PATIENCE)
    expect(page.locator(".jp-Notebook-ExecutionIndicator")).to_have_attribute("data-status", "idle", **PATIENCE)
    return page


def test_a_run_is_followed_cancelled_and_followed_up(lab: str, browser: Browser, notebooks: Path) -> None:
    page, patience = opened(lab, browser, notebooks / "live.ipynb", [LIVE, "run()", "seconds = 0\nrun()"]), PATIENCE
    first, second = (page.locator(".jp-CodeCell").nth(at) for at in (1, 2))

    # while it runs: one line with counts, and tiles as they come; Cancel keeps the keyboard while the line changes, and
    # ends it; what is known stays
    run_to(page, 1)
    line = first.locator(".edif-job")
    expect(line).to_have_attribute("data-state", "RUNNING", **patience)
    expect(line.locator(".edif-partial td[data-column]:not([data-step=''])").first).to_be_visible(**patience)
    expect(line.get_by_role("progressbar")).to_have_attribute("aria-valuemax", "30")
    photograph(page, "live", "JupyterLab Light")
    assert serious(page) == []
    cancel, bar = line.get_by_role("button", name="Cancel"), line.get_by_role("progressbar")
    cancel.focus()
    expect(bar).not_to_have_attribute("aria-valuenow", bar.get_attribute("aria-valuenow") or "", **patience)
    expect(cancel).to_be_focused()
    page.keyboard.press("Enter")
    expect(line).to_have_attribute("data-state", "CANCELLED", **patience)
    expect(first).to_contain_text("Stopped after")
    photograph(page, "cancelled", "JupyterLab Light")

    # a run to its end folds into its result
    run_to(page, 2)
    grid = second.get_by_role("grid", name="Activation patching")
    expect(grid).to_be_visible(**patience)
    expect(second.locator(".edif-job")).to_be_hidden()

    # the next thing is run by a click, in a cell below, in code that anybody can read
    grid.locator('[tabindex="0"]').click()
    second.get_by_role("button", name="Open its patched lens").click()
    third = page.locator(".jp-CodeCell").nth(3)
    expect(third.locator(".jp-InputArea")).to_contain_text(".patched_lens(layer=")
    expect(third.get_by_role("grid", name="Logit lens")).to_be_visible(**patience)
    expect(third).to_contain_text("patched (denoise)")
    third.scroll_into_view_if_needed()
    photograph(page, "followed-up", "JupyterLab Light")

    one_is_drawn_onto_another(page, grid, third)
    page.close()


def test_estimates_are_patched_exactly_at_a_click(lab: str, browser: Browser, notebooks: Path) -> None:
    page = opened(lab, browser, notebooks / "refined.ipynb", [LIVE, ESTIMATES, EXACTLY])
    run_to(page, 1)
    drawn = page.locator(".jp-CodeCell").nth(1)
    grid = drawn.get_by_role("grid", name="Attribution patching")
    expect(grid).to_be_visible(**PATIENCE)
    expect(drawn).to_contain_text("Approximate, and known to mislead at mlp")
    grid.locator('[tabindex="0"]').click()
    drawn.get_by_role("button", name="Patch the top 10 exactly").click()

    refined = page.locator(".jp-CodeCell").nth(2)
    expect(refined.locator(".jp-InputArea")).to_contain_text(".refine(pair=0)")
    expect(refined.locator(".jp-RenderedHTML tbody tr")).to_have_count(10, **PATIENCE)
    expect(refined.locator(".jp-RenderedHTML caption")).to_contain_text("patched exactly")
    refined.scroll_into_view_if_needed()
    photograph(page, "refined", "JupyterLab Light")
    rows = [
        [float(text) for text in row.locator("td").all_inner_texts()]
        for row in refined.locator(".jp-RenderedHTML tbody tr").all()
    ]
    below = page.locator(".jp-CodeCell").nth(3)
    run_to(page, 3)
    expect(below.locator(".jp-OutputArea-output")).to_have_text(re.compile(r"^\s*(\S+\s+){9}\S+\s*$"), **PATIENCE)
    whole = [float(line) for line in below.locator(".jp-OutputArea-output").inner_text().split()]
    assert [row[-1] for row in rows] == pytest.approx(whole, abs=1e-3)
    assert any(abs(exact - estimate) > 0.01 for _, estimate, exact in rows), "estimates are passed for exact ones"
    page.close()


def one_is_drawn_onto_another(page: Page, grid: Locator, below: Locator) -> None:
    """One cell drawn onto another patches the one into the other, in the cell below that was written before."""
    one, other = (grid.locator(f'td[data-row="{row}"][data-column="{column}"]') for row, column in ((4, 8), (1, 12)))
    one.hover(timeout=60_000)
    # beside the pinned cell itself there is less to say, and what stands below stays where it is
    before = below.bounding_box()
    grid.locator(".edif-pinned").hover(timeout=60_000)
    assert below.bounding_box() == before
    one.hover(timeout=60_000)
    page.mouse.down()
    expect(one).to_have_class(re.compile("edif-taken"))
    other.hover()
    photograph(page, "drawn", "JupyterLab Light")
    page.mouse.up()
    expect(below.locator(".jp-InputArea")).to_contain_text("(layer=4, position=12, source=(1, 8), site=")
    expect(below).to_contain_text("patched with that of layer 1, position 8 (denoise)", timeout=240_000)
    assert grid.locator(".edif-taken").count() == 0


def run_to(page: Page, at: int) -> None:
    """Run a cell, after those before it that have not run.

    A key goes to the cell that is active, and a notebook that has just been opened chooses one itself, maybe after our
    click: so each cell is seen to be the active one before the key, and to be taken after it.
    """
    for n in range(at + 1):
        cell = page.locator(".jp-CodeCell").nth(n)
        prompt = cell.locator(".jp-InputPrompt")
        if n < at and prompt.inner_text() != "[ ]:":
            continue
        prompt.click()
        expect(cell).to_have_class(re.compile("jp-mod-active"))
        page.keyboard.press("Control+Enter")
        expect(prompt).not_to_have_text("[ ]:", **PATIENCE)
