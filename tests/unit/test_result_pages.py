"""Results as pages of their own, and notebooks as HTML: data that no script can break out of, the script once."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from nbconvert import HTMLExporter
from nbformat.v4 import new_code_cell, new_notebook, new_output

import edif
from edif import result_pages as pages
from edif.prediction import RESULT_TYPE
from edif_widgets.notebook_pages import Views

RESULTS = Path(__file__).parents[1] / "e2e" / "results"
MARKUP = "</script><img src=x onerror=alert(1)><!--"


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script in the place of the built one: these tests need no Node.js."""
    monkeypatch.setattr(pages, "script", lambda: "drawAll()")
    monkeypatch.setattr("edif_widgets.notebook_pages.script", pages.script)


def blocks(html: str) -> list[dict[str, Any]]:
    """The data that a browser would find."""
    return [json.loads(text) for text in re.findall(rf'<script type="{re.escape(RESULT_TYPE)}">(.*?)</script>', html)]


def test_a_page_holds_the_result_the_script_once_and_no_address(tmp_path: Path) -> None:
    lens = edif.load(RESULTS / "lens.edif")
    html = lens.to_html(tmp_path / "lens.html")
    assert (tmp_path / "lens.html").read_text("utf-8") == html
    assert blocks(html) == [lens.as_json()]
    assert html.count("drawAll()") == 1
    assert "http" not in html
    assert "<table>" in html  # for who has no script


def test_no_text_ends_the_data() -> None:
    lens = edif.load(RESULTS / "lens.edif")
    lens.provenance["prompts"] = [MARKUP]
    html = lens.to_html()
    assert MARKUP not in html
    assert blocks(html)[0]["prompts"][0]["prompt"] == MARKUP


def test_a_notebook_gets_its_script_once_whatever_it_holds() -> None:
    bundle = edif.load(RESULTS / "lens.edif")._repr_mimebundle_()
    cells = [new_code_cell("x", outputs=[new_output("display_data", bundle)]) for _ in range(3)]
    notebook = new_notebook(cells=[*cells, new_code_cell("y"), new_code_cell("z", outputs=[new_output("stream")])])
    exporter = HTMLExporter(preprocessors=[Views])
    html, _ = exporter.from_notebook_node(notebook)
    assert blocks(html) == [bundle[RESULT_TYPE]] * 3
    assert html.count("drawAll()") == 1
    html, _ = exporter.from_notebook_node(new_notebook(cells=[new_code_cell("y")]))
    assert "drawAll()" not in html


def test_without_the_script_the_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pages.script.cache_clear()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(pages.ViewsMissing, match=r"build\.sh"):
        pages.script()
