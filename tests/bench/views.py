"""``edif bench views``: how large the views' script is, how soon a large grid is there, how a saved lens weighs.

The page is drawn by Chromium with the script that users get; a lens of 126 layers and 50 tokens stands for the largest
model that people read, and heads of 500 tokens for a long prompt.  With a workbench running, also how soon the first
tiles of a patching map come and how soon a cancelled job has freed its executor.  Runs in the operator's shell.
"""

from __future__ import annotations

import gzip
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from _key import new_key
from nnsight.schema.config import CONFIG
from playwright.sync_api import CDPSession, Page, sync_playwright

import edif
from edif import beside, result_pages
from edif.logit_lens import LogitLens
from edif_widgets import labextension_path

sys.path.append(str(Path(__file__).parents[2]))
from tests.long_attention import long_attention, random_weights

LAYERS, TOKENS, TOP = 126, 50, 10
#: Of the long prompt, and how many heads of it are there.
LONG, HEADS = 500, 12
ROUNDS = 7
#: Debian's browser, as in the end-to-end tests.
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = "--no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-dev-shm-usage"
CLEAN = "When Mary and John went to the store, John gave a drink to"
CORRUPT = "When Mary and John went to the store, Mary gave a drink to"

#: From the call that draws to the frame that shows it: a task after the next frame comes when that is painted.
_PAINT = """data => new Promise(done => {
  const host = document.createElement('div'); host.dataset.edif = '';
  const held = document.createElement('script'); held.type = 'application/vnd.edif.result.v1+json';
  held.textContent = data; host.append(held); document.body.replaceChildren(host);
  const began = performance.now();
  document.dispatchEvent(new Event('edif-draw'));
  requestAnimationFrame(() => { const port = new MessageChannel();
    port.port1.onmessage = () => done(performance.now() - began); port.port2.postMessage(0); });
})"""
#: The work of a move from cell to cell, layout included.
_HOVER = """() => {
  const cells = [...document.querySelectorAll('td[data-column]')].slice(0, 200);
  return cells.map(cell => { const began = performance.now();
    cell.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));
    document.body.offsetHeight; return performance.now() - began; });
}"""


def a_lens() -> LogitLens:
    """A lens with figures of a real one's kind: some hundred tokens, probabilities that fall with the rank."""
    draw = np.random.default_rng(0)
    shape = (1, LAYERS, TOKENS)
    ids = draw.integers(0, 400, (*shape, TOP))
    probability = np.sort(draw.dirichlet(np.ones(TOP + 3), shape)[..., :TOP], -1)[..., ::-1]
    texts = np.array([f" word{n}" for n in range(400)])
    axes = ("prompt", "layer", "position")
    data = {
        "top_id": ((*axes, "top"), ids),
        "top_token": ((*axes, "top"), texts[ids]),
        "top_probability": ((*axes, "top"), probability),
        **{name: (axes, draw.random(shape)) for name in ("entropy", "kl", "next_log_probability")},
        **{
            f"target_{name}": ((*axes, "target"), draw.random((*shape, 1)))
            for name in ("logit", "probability", "log_probability", "rank")
        },
    }
    known = {
        "layer": np.arange(LAYERS),
        "place": (("prompt", "position"), np.arange(TOKENS)[None]),
        "token_id": (("prompt", "position"), ids[:, 0, :, 0]),
        "token": (("prompt", "position"), texts[ids[:, 0, :, 0]]),
        "target_id": ("target", [3]),
        "target_token": ("target", [" word3"]),
    }
    said = {"model": "a large model", "dtype": "bfloat16", "site": "residual", "tuned": False, "layer_count": LAYERS}
    return LogitLens(xr.Dataset(data, known), {**said, "prompts": ["…"], "bos": [True]})


def of_a_long_prompt(page: Page) -> dict[str, float]:
    """First paint of the attention of a long prompt, and what a move of the pointer over its map takes."""
    page.set_content("<main></main>")
    page.add_script_tag(content=result_pages.script())
    busy = page.context.new_cdp_session(page)
    busy.send("Performance.enable", {"timeDomain": "threadTicks"})
    data = json.dumps(long_attention(LONG, HEADS, random_weights(LONG)))
    paints = [page.evaluate(_PAINT, data) for _ in range(ROUNDS)]
    box = page.locator(".edif-beside > canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 1)
    before, moves = _busy_s(busy), 60
    for n in range(moves):
        page.mouse.move(box["x"] + 10, box["y"] + box["height"] * (n + 1) / (moves + 1))
    page.evaluate("new Promise(requestAnimationFrame)")
    return {
        f"attention of {LONG} tokens, first paint, median (ms)": round(statistics.median(paints), 1),
        f"attention of {LONG} tokens, a move, the page's own CPU time (ms)": round(
            1000 * (_busy_s(busy) - before) / moves, 2
        ),
    }


def of_the_page(page: Page, lens: LogitLens) -> dict[str, float]:
    """First paint and hover, in milliseconds."""
    drawn = lens.as_json()
    drawn["view"] = {"layers": list(range(LAYERS))}  # every layer open
    page.set_content("<main></main>")
    page.add_script_tag(content=result_pages.script())
    data = json.dumps(drawn)
    busy = page.context.new_cdp_session(page)
    busy.send("Performance.enable", {"timeDomain": "threadTicks"})
    paints, spent = [], []
    for _ in range(ROUNDS):
        before = _busy_s(busy)
        paints.append(page.evaluate(_PAINT, data))
        spent.append(1000 * (_busy_s(busy) - before))
        page.wait_for_timeout(500)  # the rows that are not seen at once are drawn meanwhile
    cells = page.locator("td[data-column]").count()
    hovers = page.evaluate(_HOVER)
    return {
        "cells": cells,
        "first paint, first time (ms)": round(paints[0], 1),
        "first paint, median (ms)": round(statistics.median(paints), 1),
        "first paint, the page's own CPU time, median (ms)": round(statistics.median(spent), 1),
        "hover, median (ms)": round(statistics.median(hovers), 2),
        "hover, 95 % (ms)": round(statistics.quantiles(hovers, n=20)[-1], 2),
    }


def _busy_s(session: CDPSession) -> float:
    """CPU time of the page's main thread so far: what a machine with other work to do does not stretch."""
    found = session.send("Performance.getMetrics")["metrics"]
    return float(next(one["value"] for one in found if one["name"] == "TaskDuration"))


def of_the_files(lens: LogitLens) -> dict[str, float]:
    """What a reader's machine has to take in, in KB."""
    bundle = max(labextension_path().glob("edif-widgets/static/*.js"), key=lambda file: file.stat().st_size)
    drawn = json.dumps(lens.as_json(), separators=(",", ":")).encode()
    return {
        "script in JupyterLab (KB)": round(bundle.stat().st_size / 1024, 1),
        "script of a page (KB)": round(len(result_pages.script().encode()) / 1024, 1),
        "saved lens (KB)": round(len(drawn) / 1024, 1),
        "saved lens, compressed (KB)": round(len(gzip.compress(drawn)) / 1024, 1),
    }


def of_a_job() -> dict[str, float]:
    """First tiles after the call, and how long a cancelled job keeps its executor, in seconds."""
    from nnsight import TransformersModel

    torch.set_num_threads(1)
    CONFIG.API.HOST, CONFIG.API.APIKEY = os.environ["NDIF_HOST"], new_key()
    os.environ["NDIF_API_KEY"] = CONFIG.API.APIKEY
    model = TransformersModel("edif/smollm2-135m-demo", task="text-generation")
    _patch(model, "residual")  # model and executor are warm
    firsts, frees = [], []
    for _ in range(3):
        began = time.perf_counter()
        first = _first_tiles(model)
        firsts.append(first - began)
        job = edif.jobs(1)[0]
        asked = time.perf_counter()
        job.cancel()
        while not job.refresh().final:
            time.sleep(0.02)
        edif.sweep(model, "a b", [(29, 1)], _nothing, _logit, progress=False)  # runs where the cancelled job ran
        frees.append(time.perf_counter() - asked)
    return {
        "first tiles, median (s)": round(statistics.median(firsts), 2),
        "from cancel to the next job's result, median (s)": round(statistics.median(frees), 2),
    }


def _nothing(model: Any, batch: Any) -> None:
    """Leave the run as it is."""


def _logit(model: Any, batch: Any) -> Any:
    return model.lm_head.output[:, -1, 0]


def _patch(model: Any, sites: Any) -> Any:
    return edif.activation_patching(model, CLEAN, CORRUPT, (" Mary", " John"), sites=sites, progress=False)


def _first_tiles(model: Any) -> float:
    """When the first values of a long map came; its job runs on."""
    came: list[float] = []
    there = threading.Event()
    take = beside.Telling._take

    def noted(self: beside.Telling, places: Any, values: Any) -> None:
        came.append(time.perf_counter())
        there.set()
        take(self, places, values)

    beside.Telling._take = noted  # type: ignore[method-assign]
    try:
        threading.Thread(target=_ending, args=(model,), daemon=True).start()
        there.wait(120)
    finally:
        beside.Telling._take = take  # type: ignore[method-assign]
    return came[0]


def _ending(model: Any) -> None:
    """A map that is cancelled before it ends."""
    try:
        _patch(model, ["residual", "attention", "mlp", "head"])
    except edif.EdifError:
        return


def main() -> None:
    """Measure and print."""
    lens = a_lens()
    figures: dict[str, float] = of_the_files(lens)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        figures |= of_the_page(browser.new_page(viewport={"width": 1280, "height": 1000}), lens)
        figures |= of_a_long_prompt(browser.new_page(viewport={"width": 1280, "height": 1000}))
        browser.close()
    if "--page-only" not in sys.argv:
        figures |= of_a_job()
    figures["load"] = round(os.getloadavg()[0], 1)
    for name, figure in figures.items():
        print(f"{name:<68} {figure:>10}")
    if "--json" in sys.argv:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
