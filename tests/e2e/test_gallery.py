"""Every kind of view on a page of its own: as it looks in docs/gallery.md, light and dark, for every reader.

``./edif test tests/e2e/test_gallery.py --write-pictures`` makes the pictures of the gallery anew; without it what is
drawn is held against them.  Fonts and browsers differ from machine to machine, so pictures are compared in blocks of a
dozen pixels and with a tolerance, and what must not depend on that is asked of the page itself.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.e2e.gallery import KINDS
from tests.e2e.own_lab import serious
from tests.long_attention import halved_weights, long_attention

from edif import result_pages
from edif.prediction import RESULT_TYPE
from edif_widgets import labextension_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = DOCS / "images" / "gallery"
#: What the pictures are made with, and what a page must be able to show without scrolling sideways.
SIZE = {"width": 1120, "height": 900}
#: Of all blocks, how many may look otherwise: letters of other fonts, a line that breaks elsewhere.
_MAY_DIFFER = 0.04

#: The share of blocks of 12 × 12 pixels whose mean colours are far from each other, and how far the sizes are.
_COMPARED = """async ([stored, made]) => {
  const load = (data) => new Promise((done, failed) => { const one = new Image();
    one.onload = () => done(one); one.onerror = failed; one.src = 'data:image/png;base64,' + data; });
  const [old, now] = await Promise.all([load(stored), load(made)]);
  const [wide, high] = [Math.round(old.width / 12), Math.round(old.height / 12)];
  const blocks = (picture) => { const canvas = document.createElement('canvas');
    canvas.width = wide; canvas.height = high; const context = canvas.getContext('2d');
    context.imageSmoothingQuality = 'high'; context.drawImage(picture, 0, 0, wide, high);
    return context.getImageData(0, 0, wide, high).data; };
  const [a, b] = [blocks(old), blocks(now)];
  let far = 0;
  for (let at = 0; at < a.length; at += 4) {
    if (Math.max(...[0, 1, 2].map((n) => Math.abs(a[at + n] - b[at + n]))) > 40) far += 1;
  }
  return [far / (wide * high), now.width / old.width, now.height / old.height];
}"""

#: What sticks out of its card, and what text is not whole; scrolled parts may be longer than what is seen of them.
_MISFITS = """() => {
  const misfits = [];
  for (const card of document.querySelectorAll('.edif-card')) {
    const inside = card.getBoundingClientRect();
    for (const node of card.querySelectorAll('*')) {
      if (node.closest('.edif-live, .edif-scroll, .edif-heads, .edif-prompt, [hidden], svg')) continue;
      const box = node.getBoundingClientRect();
      if (box.width > 0 && (box.right > inside.right + 1 || box.left < inside.left - 1)) misfits.push(node.className);
    }
    for (const cell of card.querySelectorAll('.edif-grid:not(.edif-map) td[data-column]')) {
      if (cell.scrollWidth > cell.clientWidth + 1) misfits.push(cell.textContent);
    }
  }
  if (document.documentElement.scrollWidth > innerWidth) misfits.push('the page scrolls sideways');
  return misfits;
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], str]:
    """Writes a page with one output; gives its address."""
    folder = tmp_path_factory.mktemp("gallery")

    def write(name: str, drawn: Any) -> str:
        (folder / f"{name}.html").write_text(result_pages.page([drawn]), "utf-8")
        return (folder / f"{name}.html").as_uri()

    return write


@pytest.fixture(scope="module")
def looking(browser: Browser) -> Callable[[str], Page]:
    """One page for each colour scheme."""
    made: dict[str, Page] = {}

    def page(scheme: str) -> Page:
        if scheme not in made:
            how: Any = {"color_scheme": scheme, "viewport": SIZE, "reduced_motion": "reduce"}
            made[scheme] = browser.new_page(**how)
        return made[scheme]

    return page


def shown(page: Page, address: str) -> Locator:
    """The drawn output."""
    page.goto(address)
    host = page.locator("[data-edif]")
    expect(host.locator(".edif-card").first).to_be_visible()
    assert host.locator(".edif-problem").count() == 0, host.inner_text()
    return host


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_looks_as_in_the_gallery(
    kind: str, scheme: str, pages: Any, looking: Callable[[str], Page], request: pytest.FixtureRequest
) -> None:
    page = looking(scheme)
    host = shown(page, pages(kind, KINDS[kind]()[RESULT_TYPE]))
    assert page.evaluate(_MISFITS) == []
    assert serious(page) == []
    made, stored = host.screenshot(animations="disabled"), PICTURES / f"{kind}-{scheme}.png"
    if request.config.getoption("--write-pictures"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(made)
        return
    far, wide, high = page.evaluate(_COMPARED, [_text(stored.read_bytes()), _text(made)])
    (page_file := PICTURES.parents[2] / ".artifacts" / "screenshots").mkdir(parents=True, exist_ok=True)
    (page_file / f"gallery-{kind}-{scheme}.png").write_bytes(made)
    assert far < _MAY_DIFFER, f"{far:.1%} of the picture looks otherwise: see .artifacts/screenshots"
    assert abs(wide - 1) < 0.05, "the view has another width"
    assert abs(high - 1) < 0.15, "the view has another height"


def _text(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def test_the_gallery_shows_every_kind_in_both_themes() -> None:
    said = (DOCS / "gallery.md").read_text("utf-8")
    linked = sorted(re.findall(r"images/gallery/([a-z-]+\.png)", said))
    assert linked == sorted(f"{kind}-{scheme}.png" for kind in KINDS for scheme in ("dark", "light"))
    assert sorted(path.name for path in PICTURES.glob("*.png")) == linked


def test_the_script_of_all_views_stays_small() -> None:
    bundles = [*labextension_path().glob("edif-widgets/static/*.js")]
    assert len(bundles) > 0
    assert sum(file.stat().st_size for file in bundles) <= 150 * 1024
    assert len(result_pages.script().encode()) <= 150 * 1024


#: Kinds that have no main part to move in: a job is one line.
_MOVED = [kind for kind in KINDS if kind != "job"]


@pytest.mark.parametrize("kind", _MOVED)
def test_the_keyboard_reaches_everything_and_a_file_holds_what_was_chosen(
    kind: str, pages: Any, looking: Callable[[str], Page]
) -> None:
    page = looking("light")
    drawn = KINDS[kind]()[RESULT_TYPE]
    host = shown(page, pages(kind, drawn))
    card = host.locator(".edif-card:not(.edif-sliders)").first
    for _ in range(80):  # by the tab key alone, from the top of the page
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.matches('td[data-column], .edif-prompt, .edif-tokens tr')"):
            break
    else:
        pytest.fail("the tab key does not reach the drawing")
    for key in ("ArrowUp", "ArrowLeft", "Enter", "m"):
        page.keyboard.press(key)
    if kind != "next-token":
        page.keyboard.press("t")
        expect(card.locator("table.edif-plain")).to_be_visible()
        page.keyboard.press("t")
        expect(card.locator("table.edif-plain")).to_be_hidden()
    alone = kind not in ("side-by-side", "series")  # beside others it has their scale
    before = looks(card, alone)
    page.keyboard.press("e")
    page.keyboard.press("ArrowUp")  # the last of the menu: JSON
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    kept = json.loads(download.value.path().read_text("utf-8"))
    assert kept["view"], "nothing of what was chosen is in the file"
    again = shown(page, pages(f"{kind}-again", kept)).locator(".edif-card").first
    assert looks(again, alone) == before


def looks(card: Locator, colours: bool) -> Any:
    """What a reader has before them: texts, colours, pins and switches, without the panel that follows the pointer."""
    found = card.evaluate(
        """(card, colours) => [
      [...card.querySelectorAll('[data-step], tr')]
        .filter((node) => !node.closest('[hidden]') && (colours || !node.closest('.edif-legend')))
        .map((node) => [node.textContent, colours ? (node.dataset.step ?? null) : null]),
      [...card.querySelectorAll('.edif-pinned, [aria-selected="true"]')].map(node => node.getAttribute('aria-label')),
      [...card.querySelectorAll('[aria-pressed="true"]')].map(node => node.textContent),
      card.dataset.metric ?? null,
    ]""",
        colours,
    )
    assert len(found[0]) > 2
    return found


def a_lens_of(texts: list[str]) -> dict[str, Any]:
    """A lens of one layer whose cells say the token that they stand on."""
    count = len(texts)
    nothing = [None] * count
    return {
        "version": 1,
        "kind": "logit_lens",
        "title": "Logit lens",
        "provenance": {"model": "edif/demo", "dtype": "float32"},
        "foot": "",
        "layers": [0],
        "final": True,
        "top": 1,
        "targets": [],
        "vocabulary": {"ids": list(range(count)), "texts": texts},
        "prompts": [
            {
                "prompt": "".join(texts),
                "bos": False,
                "tokens": list(range(count)),
                "top": list(range(count)),
                "probability": [(n + 1) / count for n in range(count)],
                **dict.fromkeys(("entropy", "kl", "next"), nothing),
                **{f"target_{name}": [] for name in ("probability", "rank", "logit")},
            }
        ],
        "view": {},
    }


def test_right_to_left_and_east_asian_tokens_stand_whole_in_their_order(
    pages: Any, looking: Callable[[str], Page]
) -> None:
    texts = ["The", " שלום", " العربية", "中文字", " 日本", "한국어", "\u202egnp", "👩‍🔬", "e\u0301", "\n", "\t"]
    page = looking("light")
    host = shown(page, pages("scripts", a_lens_of(texts)))
    heads = host.locator("thead th.edif-column")
    expect(heads).to_have_text(
        ["The", "␣שלום", "␣العربية", "中文字", "␣日本", "한국어", "⟨U+202E⟩gnp", "👩⟨U+200D⟩🔬", "e\u0301", "↵", "⇥"]
    )
    places = heads.evaluate_all("nodes => nodes.map(node => node.getBoundingClientRect().left)")
    assert places == sorted(places), "columns stand in another order than the tokens of the prompt"
    cells = host.locator("td[data-column]")
    assert cells.evaluate_all("nodes => nodes.filter(node => node.scrollWidth > node.clientWidth + 1).length") == 0
    # the mark of a space stands where the word begins
    edge = """node => { const range = document.createRange();
      range.setStart(node.firstChild, 0); range.setEnd(node.firstChild, 1); const mark = range.getBoundingClientRect();
      range.setStart(node.firstChild, 1); range.setEnd(node.firstChild, node.textContent.length);
      return mark.left - range.getBoundingClientRect().left; }"""
    assert cells.nth(4).evaluate(edge) < 0
    assert cells.nth(1).evaluate(edge) > 0
    assert heads.nth(2).locator("span").evaluate(edge) > 0
    assert [cells.nth(n).get_attribute("aria-label") for n in (1, 3)] == [
        "␣שלום, layer 0, ␣שלום, probability 0.182",
        "中文字, layer 0, 中文字, probability 0.364",
    ]
    assert serious(page) == []


def test_attention_of_500_tokens_follows_the_pointer_within_a_frame(pages: Any, looking: Callable[[str], Page]) -> None:
    page = looking("light")
    host = shown(page, pages("long", long_attention(500, 12, halved_weights(500))))
    pieces = host.locator(".edif-piece")
    expect(pieces).to_have_count(500)
    expect(host.locator("canvas")).to_have_count(13)
    box = host.locator(".edif-beside > canvas").bounding_box()
    assert box is not None
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = _busy_s(session)
    moves = 40
    for n in range(moves):
        page.mouse.move(box["x"] + 10, box["y"] + box["height"] * (n + 1) / (moves + 1))
    expect(host.locator('.edif-piece[aria-selected="true"]')).to_have_text("␣word487")
    assert [pieces.nth(n).get_attribute("data-step") for n in (485, 486, 487, 488)] == ["s0", "s15", "s16", ""]
    # CPU time of the page's main thread, which other work on the machine does not stretch
    spent_ms = 1000 * (_busy_s(session) - before) / moves
    assert spent_ms < 16, f"{spent_ms:.1f} ms a move"


def _busy_s(session: Any) -> float:
    found = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))
