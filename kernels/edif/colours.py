"""The colour scales of the views, for pictures that are made without a browser.

The same steps as ``extensions/src/core/scale.ts`` (a test holds them together): blue for how much, blue and orange
about a zero that is the ground; the ink on each step keeps a contrast of 4.5.  Called by :mod:`edif.picture`.
"""

from __future__ import annotations

import math
from typing import Literal

Theme = Literal["light", "dark"]

STEPS, SIDE = 32, 20
ANCHORS: dict[str, dict[str, tuple[str, ...]]] = {
    "light": {
        "blue": ("#f3f6fc", "#c3d3ef", "#87a8db", "#4a76be", "#2850a0", "#172a63"),
        "below": ("#f5f6f6", "#bcd0ee", "#6b95d6", "#2350a9"),
        "above": ("#f5f6f6", "#f6cf9d", "#e0933f", "#a54c0c"),
    },
    "dark": {
        "blue": ("#1b2130", "#1f3a70", "#2f60b4", "#5f95e0", "#9cc3f7", "#cfe3ff"),
        "below": ("#1d2129", "#22406f", "#3a72c4", "#79b0ff"),
        "above": ("#1d2129", "#5c3a17", "#b06a22", "#ffb25c"),
    },
}
SEQUENTIAL = tuple(f"s{step}" for step in range(STEPS))
DIVERGING = (*(f"b{SIDE - step}" for step in range(SIDE)), *(f"o{step}" for step in range(SIDE + 1)))


def sequential(value: float, low: float, high: float) -> str:
    """The step for ``value`` between ``low`` and ``high``; the empty text for what is not known."""
    if math.isnan(value):
        return ""
    part = (value - low) / (high - low) if high > low else float(value >= high)
    return f"s{_half_up(min(1.0, max(0.0, part)) * (STEPS - 1))}"


def diverging(value: float, extent: float) -> str:
    """The step for ``value``, symmetric about 0 up to ± ``extent``."""
    if math.isnan(value):
        return ""
    step = _half_up(min(1.0, abs(value) / extent) * SIDE) if extent > 0 else 0
    return f"{'b' if value < 0 and step else 'o'}{step}"


def ground(step: str, theme: Theme) -> str:
    """The colour of a step, ``#rrggbb``."""
    name = {"s": "blue", "b": "below", "o": "above"}[step[0]]
    anchors = [_channels(anchor) for anchor in ANCHORS[theme][name]]
    at = min(int(step[1:]) / (STEPS - 1 if step[0] == "s" else SIDE) * (len(anchors) - 1), len(anchors) - 1.000001)
    first, part = int(at), at - int(at)
    mixed = [_half_up(low + (high - low) * part) for low, high in zip(anchors[first], anchors[first + 1], strict=True)]
    return "#" + "".join(f"{value:02x}" for value in mixed)


def ink(step: str, theme: Theme) -> str:
    """Black or white, whichever is read better on the step."""
    light = _luminance(ground(step, theme)) + 0.05
    return "#000000" if light / 0.05 >= 1.05 / light else "#ffffff"


def _half_up(value: float) -> int:
    return math.floor(value + 0.5)  # as JavaScript rounds


def _channels(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def _luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [value / 255 for value in _channels(colour)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
