"""Faults that a drawing could have, planted into a page: each must be seen in the pictures of test_gallery.py."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

#: Colours of the scales as extensions/src/core/scale.ts has them, light and dark, and what is planted in their place.
_ORANGES = ("#f6cf9d", "#e0933f", "#a54c0c", "#5c3a17", "#b06a22", "#ffb25c")
_OTHER_ORANGES = ("#f7d6ab", "#e69a3a", "#ad5312", "#633e16", "#b8701e", "#ffb968")
_GREENS = ("#cbe6a5", "#7ab648", "#3d7a14", "#2f5217", "#579a2c", "#a5e86a")
_BLUES = ("#c3d3ef", "#87a8db", "#4a76be", "#2850a0", "#1f3a70", "#2f60b4", "#5f95e0", "#9cc3f7")
_OTHER_BLUES = ("#c3d9ef", "#87b1db", "#4a80be", "#285ba0", "#1f4270", "#2f6bb4", "#5f9fe0", "#9ccbf7")


def other_orange(page: str) -> str:
    """Effects on an orange that is a shade off."""
    return _replaced(page, _ORANGES, _OTHER_ORANGES)


def green(page: str) -> str:
    """Effects on green."""
    return _replaced(page, _ORANGES, _GREENS)


def other_blue(page: str) -> str:
    """Probabilities on a blue that is a shade off."""
    return _replaced(page, _BLUES, _OTHER_BLUES)


def no_legend(page: str) -> str:
    """A scale that nobody explains."""
    return _styled(page, ".edif-card .edif-legend{visibility:hidden}")


def shifted_heads(page: str) -> str:
    """Names that do not stand where their columns are."""
    return _styled(page, ".edif-card thead th.edif-column{transform:translateX(4px)}")


def shifted_layers(page: str) -> str:
    """Numbers of layers half a row too low."""
    return _styled(page, ".edif-card tbody th{transform:translateY(5px)}")


def shifted_axis(page: str) -> str:
    """A plot whose zero is not where it is said to be."""
    return _styled(page, ".edif-card .edif-plot .edif-axis{transform:translateY(-4px)}")


def _replaced(page: str, colours: tuple[str, ...], by: tuple[str, ...]) -> str:
    for one, other in zip(colours, by, strict=True):
        assert one in page, f"{one} is no colour of the scales any more"
        page = page.replace(one, other)
    return page


def _styled(page: str, rule: str) -> str:
    return page.replace("</main>", f"<style>{rule}</style></main>")


# -- one value that is a tenth off ---------------------------------------------


def tenth_off(kind: str, drawn: dict[str, Any]) -> dict[str, Any]:
    """The result with one value that is seen at first a tenth too small: one of the middle, so that the scale stays."""
    changed = copy.deepcopy(drawn)
    _TENTHS[kind](changed)
    assert changed != drawn
    return changed


def _middle(values: list[float | None]) -> int:
    """Place of the value that is closest to 0.6 of the largest."""
    known = [(abs(value), place) for place, value in enumerate(values) if value is not None]
    most = max(known)[0]
    return min(known, key=lambda one: abs(one[0] - 0.6 * most))[1]


def _in(values: list[float], places: list[int]) -> None:
    place = places[_middle([values[n] for n in places])]
    values[place] *= 0.9


def _lens(drawn: dict[str, Any]) -> None:
    values = drawn["prompts"][0]["probability"]
    _in(values, list(range(0, len(values), drawn["top"])))


def _patching(drawn: dict[str, Any]) -> None:
    site, run = drawn["sites"][0], drawn["pairs"][0]["runs"][0]
    values, low, high = run["values"][site["name"]], run["corrupt"][0], run["clean"][0]
    layers, positions, parts = len(drawn["layers"]), len(run["tokens"]), site["parts"]
    seen = [positions - 1] if parts > 1 else range(positions)
    places = [(n * positions + p) * parts + h for n in range(layers) for p in seen for h in range(parts)]
    effects = [None if values[n] is None else (values[n] - low) / (high - low) for n in places]
    place = _middle(effects)
    values[places[place]] = low + 0.9 * (effects[place] or 0.0) * (high - low)


def _trace(drawn: dict[str, Any]) -> None:
    fact = drawn["facts"][0]
    _in(fact["effect"], list(range(len(drawn["layers"]) * len(fact["tokens"]))))


def _attention(drawn: dict[str, Any]) -> None:
    held = drawn["prompts"][0]["maps"][0]
    weights = bytearray(base64.b64decode(held["weights"]))
    place = _middle([float(weight) for weight in weights])
    weights[place] = round(weights[place] * 0.9)
    held["weights"] = base64.b64encode(bytes(weights)).decode()


def _steering(drawn: dict[str, Any]) -> None:
    _in(drawn["mean"]["mean"], list(range(len(drawn["layers"]) * len(drawn["strengths"]))))


def _probe(drawn: dict[str, Any]) -> None:
    values, positions = drawn["effects"]["mean"], len(drawn["positions"])
    wide = len(drawn["strengths"]) + 2
    _in(values, [n * positions * wide + c for n in range(len(drawn["layers"])) for c in range(wide)])


def _comparison(drawn: dict[str, Any]) -> None:
    values = drawn["prompts"][0]["values"]["kl"]
    _in(values, list(range(len(values))))


def _next(drawn: dict[str, Any]) -> None:
    drawn["tokens"][0]["probability"] *= 0.9


_TENTHS: dict[str, Callable[[dict[str, Any]], None]] = {
    "next-token": _next,
    "lens": _lens,
    "side-by-side": lambda drawn: _lens(drawn["results"][0]),
    "patching": _patching,
    "attribution": _patching,
    "path": _patching,
    "trace": _trace,
    "series": lambda drawn: _trace(drawn["results"][0]),
    "attention": _attention,
    "steering": _steering,
    "probe": _probe,
    "comparison": _comparison,
    "job": lambda drawn: _patching(drawn["result"]),
}
