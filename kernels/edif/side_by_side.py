"""``edif.side_by_side(one, other)``: two results on one scale; ``edif.series([…])``: many, one at a time, by slider.

Two prompts, two models, a patched run beside the run it came from; or one trace for each window and level of noise.
Nothing is computed: the results are drawn together.  Runs in the user's process.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from itertools import product
from pathlib import Path
from typing import Any

from edif import outputs, picture_still, picture_svg, picture_together, result_pages, shown_results
from edif.colours import Theme
from edif.prediction import RESULT_TYPE
from edif.result import Result

#: More results than this in one output would be read by nobody.
_MOST = 60
#: What is the same in no two runs, and what only the pictures' reader has chosen.
_OF_THE_MOMENT = ("made", "server_seconds", "versions")


class Together:
    """Several results in one output; made by :func:`side_by_side` and :func:`series`."""

    def __init__(
        self, results: Sequence[Result], layout: str, axes: Mapping[str, Sequence[Any]], places: list[int | None]
    ) -> None:
        self.results, self.layout, self.axes, self._places = list(results), layout, dict(axes), places

    def as_json(self, budget_bytes: int = outputs.BUDGET_BYTES) -> dict[str, Any]:
        """What a notebook keeps to draw them: each in its share of the budget.

        Raises:
            OutputTooLarge: one of them does not fit its share.
        """
        share = (budget_bytes - 2000) // len(self.results)
        drawn = [result.as_json(share) for result in self.results]
        for place, one in enumerate(drawn):
            if self.layout == "beside" and self.results.count(self.results[place]) > 1:
                one["view"] = {**one["view"], "prompt": place}
        return {
            "version": outputs.VERSION,
            "kind": "together",
            "title": drawn[0]["title"],
            "layout": self.layout,
            "axes": [{"name": name, "values": [str(value) for value in values]} for name, values in self.axes.items()],
            "places": self._places,
            "results": drawn,
            "view": {},
        }

    def table(self) -> str:
        """The results' plain tables, one below the other."""
        return "".join(result.table() for result in self.results)

    def to_html(self, path: str | Path | None = None) -> str:
        """A page of its own with these results, without a network; written to ``path`` if one is given.

        Raises:
            ViewsMissing: the views' script is not on this machine.
            OutputTooLarge: one of them does not fit its share of an output.
        """
        page = result_pages.page([self.as_json()], [self.table()])
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def to_svg(self, path: str | Path | None = None, *, theme: Theme = "light") -> str:
        """A picture of them as SVG, on one scale, made without a browser; written to ``path`` where one is given."""
        made = picture_together.svg(self.as_json(), theme)
        if path is not None:
            Path(path).write_text(made, encoding="utf-8")
        return made

    def to_png(self, path: str | Path | None = None, *, theme: Theme = "light", scale: float = 2.0) -> bytes:
        """The picture of :meth:`to_svg` as PNG, ``scale`` pixels to a unit.

        Raises:
            PictureImpossible: there is no font here, or it would be too large.
        """
        made = picture_svg.png(self.to_svg(theme=theme), scale)
        if path is not None:
            Path(path).write_bytes(made)
        return made

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/html": self.table(), "text/plain": repr(self)}
        try:
            bundle[RESULT_TYPE] = self.as_json()
            for result, one in zip(self.results, bundle[RESULT_TYPE]["results"], strict=True):
                one["handle"] = shown_results.remember(result.kind, result.provenance, result)
        except outputs.OutputTooLarge as error:
            bundle["text/html"] += f"<p>{escape(str(error))}</p>"
        else:
            bundle |= picture_still.still(bundle[RESULT_TYPE])
        return bundle

    def __repr__(self) -> str:
        along = ", ".join(f"{name} {', '.join(map(str, values))}" for name, values in self.axes.items())
        return f"<{len(self.results)} results {self.layout if not along else 'by ' + along}>"


def side_by_side(*results: Result) -> Together:
    """Two results of one kind beside each other, on one scale; of one alone, its first two prompts.

    Raises:
        ValueError: another number of results, or of two kinds.
    """
    both = list(results) * 2 if len(results) == 1 else list(results)
    if len(both) != 2:
        raise ValueError("side_by_side takes two results, or one with several prompts.")
    if len(results) == 1 and len(results[0].provenance.get("prompts", ())) < 2:
        raise ValueError("This result has one prompt: give a second result, or ask for two prompts.")
    _check_kinds(both)
    return Together(both, "beside", {}, [0, 1])


def series(results: Sequence[Result], by: str | Sequence[str] | None = None) -> Together:
    """Results of one kind that differ in one or two settings, to go through with sliders: traces by window and noise.

    Args:
        by: what they differ in, as their provenance names it (``window``, ``level``, ``samples``, ``stride`` …); found
            out where it is not given.

    Raises:
        ValueError: fewer than two, of different kinds, or they do not differ in one or two settings.
    """
    held = list(results)
    if not 1 < len(held) <= _MOST:
        raise ValueError(f"A series has 2 to {_MOST} results, and these are {len(held)}.")
    _check_kinds(held)
    names = [by] if isinstance(by, str) else list(by) if by is not None else _differing(held)
    if not 1 <= len(names) <= 2 or any(name not in one.provenance for name in names for one in held):
        found = ", ".join(_differing(held)) or "nothing"
        raise ValueError(f"These results differ in {found}: name one or two of these, by=….")
    axes = {name: sorted({one.provenance[name] for one in held}) for name in names}
    at = {tuple(one.provenance[name] for name in names): place for place, one in enumerate(held)}
    if len(at) < len(held):
        raise ValueError(f"Two of these results have the same {' and '.join(names)}.")
    return Together(held, "series", axes, [at.get(values) for values in product(*axes.values())])


def _check_kinds(results: Sequence[Result]) -> None:
    kinds = {result.kind for result in results}
    if len(kinds) > 1:
        raise ValueError(f"Results of one kind are drawn together, and these are {' and '.join(sorted(kinds))}.")


def _differing(results: Sequence[Result]) -> list[str]:
    """Settings with one number each that are not the same in all."""
    names = [
        name
        for name, value in results[0].provenance.items()
        if isinstance(value, int | float | str) and name not in _OF_THE_MOMENT
    ]
    found: dict[tuple[int, ...], str] = {}
    for name in names:
        values = [json.dumps(one.provenance.get(name)) for one in results]
        if len(set(values)) > 1:
            # what changes exactly where another setting does is that setting in other words: noise and its level
            found.setdefault(tuple(values.index(value) for value in values), name)
    return list(found.values())
