"""Holds what is drawn against a stored picture: strictly, and on any machine.

Used by test_gallery.py.  Letters differ from machine to machine, so the browser of these tests is given one family of
fonts, neither hinted nor in colour (:func:`fonts`): then what is drawn has the same places everywhere, and only the
edges of letters and lines may be a shade off.  So a pixel is *out* when the other picture has no such colour within one
pixel of its place, and a picture is another one when a patch, a piece of a line or more than a speck is out, or when a
cell's mean colour has changed.
"""

from __future__ import annotations

import base64
import dataclasses
from pathlib import Path

from playwright.sync_api import Locator

#: Where Debian's fonts-dejavu lays the fonts that pictures are made with.
DEJAVU = Path("/usr/share/fonts/truetype/dejavu")
#: A channel may be so far (of 255) from what the other picture has around a pixel.
_SHADE = 6
#: So many pixels each way are a patch; within a window of so many, a line or a letter is seen.
_PATCH, _WINDOW = 4, 24


@dataclasses.dataclass(frozen=True)
class Difference:
    """How far two pictures are from each other."""

    out: float  #: share of pixels that are out
    patch: float  #: most that is out of any patch, 0 to 1
    window: float  #: most that is out of any window, 0 to 1
    cell: float  #: furthest that a cell's mean colour is off, in any channel, of 255
    wide: float  #: pixels that the new one is wider
    high: float

    def words(self) -> str:
        """Why it is another picture; empty where it is not."""
        limits = {"out": 0.001, "patch": 0.8, "window": 0.06, "cell": 3.0, "wide": 1.0, "high": 1.0}
        found = {name: abs(getattr(self, name)) for name in limits}
        return ", ".join(f"{name} {found[name]:.3g} > {most}" for name, most in limits.items() if found[name] > most)


_COMPARED = """async ([stored, made, cells, shade, patch, window]) => {
  const load = (data) => new Promise((done, failed) => { const one = new Image();
    one.onload = () => done(one); one.onerror = failed; one.src = 'data:image/png;base64,' + data; });
  const [old, now] = await Promise.all([load(stored), load(made)]);
  const [wide, high] = [Math.min(old.width, now.width), Math.min(old.height, now.height)];
  const [a, b] = [old, now].map((picture) => { const canvas = document.createElement('canvas');
    [canvas.width, canvas.height] = [wide, high]; const context = canvas.getContext('2d');
    context.drawImage(picture, 0, 0); return context.getImageData(0, 0, wide, high).data; });
  const around = (data, pick) => {  // the least or the most of each channel within one pixel, row by row and across
    let from = data;
    const ways = [[4, wide, (at) => (at >> 2) % wide], [4 * wide, high, (at) => Math.floor((at >> 2) / wide)]];
    for (const [step, count, along] of ways) {
      const to = new Uint8ClampedArray(from);
      for (let at = 0; at < from.length; at++) {
        const place = along(at);
        if (place > 0) to[at] = pick(to[at], from[at - step]);
        if (place < count - 1) to[at] = pick(to[at], from[at + step]);
      }
      from = to;
    }
    return from;
  };
  const out = new Uint8Array(wide * high);
  for (const [one, other] of [[a, b], [b, a]]) {
    const [low, most] = [around(one, Math.min), around(one, Math.max)];
    for (let at = 0; at < other.length; at++) {
      if (other[at] < low[at] - shade || other[at] > most[at] + shade) out[at >> 2] = 1;
    }
  }
  const sums = new Float64Array((wide + 1) * (high + 1));
  for (let y = 0; y < high; y++) for (let x = 0, row = 0; x < wide; x++) {
    row += out[y * wide + x];
    sums[(y + 1) * (wide + 1) + x + 1] = sums[y * (wide + 1) + x + 1] + row;
  }
  const within = (x, y, w, h) => sums[(y + h) * (wide + 1) + x + w] - sums[y * (wide + 1) + x + w]
    - sums[(y + h) * (wide + 1) + x] + sums[y * (wide + 1) + x];
  const worst = (size) => { let most = 0;
    for (let y = 0; y + size <= high; y++)
      for (let x = 0; x + size <= wide; x++) most = Math.max(most, within(x, y, size, size));
    return most / size ** 2; };
  const mean = (data, [left, top, right, bottom]) => { const sum = [0, 0, 0]; let count = 0;
    for (let y = top; y < bottom; y++) for (let x = left; x < right; x++, count++)
      for (const n of [0, 1, 2]) sum[n] += data[4 * (y * wide + x) + n];
    return sum.map((one) => one / count); };
  let furthest = 0;
  for (const [left, top, right, bottom] of cells) {
    const inner = [Math.ceil(left) + 1, Math.ceil(top) + 1, Math.floor(right) - 1, Math.floor(bottom) - 1];
    if (inner[2] <= inner[0] || inner[3] <= inner[1] || inner[2] > wide || inner[3] > high) continue;
    const [one, other] = [mean(a, inner), mean(b, inner)];
    furthest = Math.max(furthest, ...one.map((value, n) => Math.abs(value - other[n])));
  }
  return { out: sums.at(-1) / (wide * high), patch: worst(patch), window: worst(window), cell: furthest,
    wide: now.width - old.width, high: now.height - old.height };
}"""

#: Where the cells, bars and pieces of a scale are that carry a colour, from the corner of the drawing.
_CELLS = """(host) => { const corner = host.getBoundingClientRect();
  const { left, top } = corner;
  return [...host.querySelectorAll('[data-step]')].map((node) => node.getBoundingClientRect())
    .filter(({ width, height }) => width > 4 && height > 4)
    .map((box) => [box.left - left, box.top - top, box.right - left, box.bottom - top]); }"""


def difference(host: Locator, stored: bytes, made: bytes) -> Difference:
    """How far what is drawn in ``host``, photographed as ``made``, is from the ``stored`` picture."""
    texts = [base64.b64encode(picture).decode() for picture in (stored, made)]
    asked = [*texts, host.evaluate(_CELLS), _SHADE, _PATCH, _WINDOW]
    return Difference(**host.page.evaluate(_COMPARED, asked))


def fonts(folder: Path) -> dict[str, str]:
    """Environment of a browser that knows the fonts of the stored pictures alone, not hinted and not in colour."""
    named = {"system-ui": "DejaVu Sans", "sans-serif": "DejaVu Sans", "serif": "DejaVu Serif"}
    named |= dict.fromkeys(("monospace", "ui-monospace"), "DejaVu Sans Mono")
    aliases = "".join(
        f"<alias binding='same'><family>{name}</family><prefer><family>{font}</family></prefer></alias>"
        for name, font in named.items()
    )
    ways = {"antialias": "<bool>true</bool>", "hinting": "<bool>false</bool>"}
    ways |= {"hintstyle": "<const>hintnone</const>", "rgba": "<const>none</const>"}
    edits = "".join(f"<edit name='{name}' mode='assign'>{value}</edit>" for name, value in ways.items())
    # whatever else is asked for
    otherwise = "<edit name='family' mode='append_last' binding='weak'><string>DejaVu Sans</string></edit>"
    file = folder / "fonts.conf"
    file.write_text(
        f"<?xml version='1.0'?><!DOCTYPE fontconfig SYSTEM 'fonts.dtd'><fontconfig><dir>{DEJAVU}</dir>"
        f"<cachedir>{folder}/fonts</cachedir>{aliases}<match target='pattern'>{edits}{otherwise}</match>"
        f"<match target='font'>{edits}</match></fontconfig>"
    )
    return {"FONTCONFIG_FILE": str(file)}
