"""Every kind of view on a page of its own: as it looks in docs/gallery.md, light and dark, for every reader.

``./edif test tests/e2e/test_gallery.py --write-pictures`` makes the pictures of the gallery anew; without it what is
drawn is held against them, with the same fonts everywhere (pictures.py).  That this sees what is wrong is tested with
faults that are planted (faults_of_drawing.py).
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from tests.e2e import faults_of_drawing
from tests.e2e.gallery import KINDS
from tests.e2e.own_lab import CHROMIUM, QUIET, SCREENSHOTS, needed, serious
from tests.e2e.pictures import DEJAVU, difference, fonts
from tests.long_attention import halved_weights, long_attention

from edif import result_pages
from edif.prediction import RESULT_TYPE
from edif_widgets import labextension_path

DOCS = Path(__file__).resolve().parents[2] / "docs"
PICTURES = DOCS / "images" / "gallery"
#: What the pictures are made with, and what a page must be able to show without scrolling sideways.
SIZE = {"width": 1120, "height": 900}
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


@contextmanager
def another(browser: Browser, folder: Path) -> Iterator[Browser]:
    """A browser that has the fonts of the stored pictures alone."""
    needed(
        (DEJAVU / "DejaVuSansMono.ttf").exists(), "the fonts of the pictures are missing: apt-get install fonts-dejavu"
    )
    env: dict[str, Any] = {**os.environ, **fonts(folder)}
    made = browser.browser_type.launch(executable_path=CHROMIUM, args=QUIET, env=env)
    yield made
    made.close()


@pytest.fixture(scope="module")
def alike(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Page]]:
    """As :func:`looking`, and what is drawn has the same letters on every machine."""
    with another(browser, tmp_path_factory.mktemp("fonts")) as made:
        yield _pages_of(made)


@pytest.fixture(scope="module")
def looking(browser: Browser) -> Callable[[str], Page]:
    """One page for each colour scheme."""
    return _pages_of(browser)


def _pages_of(browser: Browser) -> Callable[[str], Page]:
    @functools.cache
    def page(scheme: str) -> Page:
        how: Any = {"color_scheme": scheme, "viewport": SIZE, "reduced_motion": "reduce"}
        return browser.new_page(**how)

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
    kind: str, scheme: str, pages: Any, alike: Callable[[str], Page], request: pytest.FixtureRequest
) -> None:
    page = alike(scheme)
    host = shown(page, pages(kind, KINDS[kind]()[RESULT_TYPE]))
    assert page.evaluate(_MISFITS) == []
    assert serious(page) == []
    made, stored = host.screenshot(animations="disabled"), PICTURES / f"{kind}-{scheme}.png"
    if request.config.getoption("--write-pictures"):
        PICTURES.mkdir(parents=True, exist_ok=True)
        stored.write_bytes(made)
        return
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / f"gallery-{kind}-{scheme}.png").write_bytes(made)
    assert difference(host, stored.read_bytes(), made).words() == "", "see .artifacts/screenshots"


#: Kinds whose pictures show the scale of effects, and that of probabilities and shares.
_EFFECTS = ("patching", "attribution", "path", "steering", "probe", "job")
_SHARES = ("lens", "side-by-side", "trace", "series", "attention", "probe", "comparison")
_GRIDS = (*_EFFECTS, "lens", "side-by-side", "trace", "series", "comparison")
_PLOTS = ("trace", "steering", "probe", "comparison", "lens")
FAULTS: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "other orange": (faults_of_drawing.other_orange, _EFFECTS),
    "green": (faults_of_drawing.green, _EFFECTS),
    "other blue": (faults_of_drawing.other_blue, _SHARES),
    "no legend": (faults_of_drawing.no_legend, _GRIDS),
    "shifted heads": (faults_of_drawing.shifted_heads, _GRIDS),
    "shifted layers": (faults_of_drawing.shifted_layers, _GRIDS),
    "shifted axis": (faults_of_drawing.shifted_axis, _PLOTS),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("fault", "kind"), [(fault, kind) for fault, (_, kinds) in FAULTS.items() for kind in kinds])
def test_a_fault_is_seen(fault: str, kind: str, scheme: str, tmp_path: Path, alike: Callable[[str], Page]) -> None:
    page = result_pages.page([KINDS[kind]()[RESULT_TYPE]])
    planted = FAULTS[fault][0](page)
    assert planted != page
    assert seen(tmp_path, planted, kind, scheme, alike) != ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_is_a_tenth_off_is_seen(
    kind: str, scheme: str, tmp_path: Path, alike: Callable[[str], Page]
) -> None:
    planted = faults_of_drawing.tenth_off(kind, KINDS[kind]()[RESULT_TYPE])
    assert seen(tmp_path, result_pages.page([planted]), kind, scheme, alike) != ""


def seen(folder: Path, planted: str, kind: str, scheme: str, alike: Callable[[str], Page]) -> str:
    """What is said of a page with a fault, held against the stored picture."""
    (folder / "planted.html").write_text(planted, "utf-8")
    host = shown(alike(scheme), (folder / "planted.html").as_uri())
    stored = (PICTURES / f"{kind}-{scheme}.png").read_bytes()
    return difference(host, stored, host.screenshot(animations="disabled")).words()


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
