"""Results that are drawn together as one picture: side by side, or one below the other by their settings; on one scale.

Called by :mod:`edif.outputs` and :class:`edif.side_by_side.Together`; runs in the user's process.
"""

from __future__ import annotations

import dataclasses
from itertools import product
from typing import Any

from edif import picture, picture_svg
from edif.colours import Theme
from edif.picture_parts import Picture, joined

#: More results than this are too many for one picture: then some of them, from the first to the last.
_MOST = 6


def of(drawn: dict[str, Any]) -> list[Picture]:
    """Pictures of the results in their JSON (``kind`` is ``together``), on one scale where they have one of their own.

    Raises:
        NotImplementedError: there is no picture of their kind.
    """
    some = _shown(drawn)
    made = [_made(one) for _, one in some]
    ends = [found.ends for found in made if found.ends is not None]
    if len(ends) == len(made):
        both = (min(low for low, _ in ends), max(high for _, high in ends))
        made = [_made(one, ends=both) for _, one in some]
    left = len(drawn["results"]) - len(some)
    feet = [joined([found.foot, f"{left} more results are not in this picture" if left else ""]) for found in made]
    return [
        dataclasses.replace(found, title=joined([settings, found.title]), foot=foot)
        for (settings, _), found, foot in zip(some, made, feet, strict=True)
    ]


def svg(drawn: dict[str, Any], theme: Theme = "light") -> str:
    """One SVG document: two results beside each other, those of a series one below the other."""
    documents = [picture_svg.svg(one, theme) for one in of(drawn)]
    return picture_svg.several(documents, 2 if drawn["layout"] == "beside" else 1, drawn["title"])


def _shown(drawn: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Results with the settings that they stand for, where there are some."""
    results, axes = drawn["results"], drawn["axes"]
    if not axes:
        return [("", one) for one in results]
    combinations = product(*([f"{axis['name']} {value}" for value in axis["values"]] for axis in axes))
    found = [
        (", ".join(settings), results[place])
        for settings, place in zip(combinations, drawn["places"], strict=True)
        if place is not None
    ]
    if len(found) <= _MOST:
        return found
    return [found[round(n * (len(found) - 1) / (_MOST - 1))] for n in range(_MOST)]


def _made(one: dict[str, Any], **chosen: Any) -> Picture:
    """A picture of one of them: of its prompt that the view shows."""
    prompt = one["view"].get("prompt")
    if isinstance(prompt, int) and "prompt" in picture.choices(one):
        chosen["prompt"] = prompt
    return picture.of(one, **chosen)
