"""Results as a notebook holds them: small JSON for the front end, a plain table for every other reader.

Called by the results' ``as_json`` and ``_repr_mimebundle_``; runs in the user's process.  The arrays of a result
are the truth; what is made here is rounded and may be reduced, and then says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from edif.errors import EdifError
from edif.prediction import visible

VERSION = 1
#: What one output may take in a notebook, as JSON.
BUDGET_BYTES = 1_000_000
#: More cells than this in one map would freeze a page.
CELLS = 40_000
#: More cells than this are left out of the plain table, layer by layer.
_TABLE_CELLS = 1500
_CELL = "text-align:left;white-space:pre-wrap"
#: How the sentence begins that says what a drawing leaves out.
_REDUCED = "drawn to fit the notebook"


class OutputTooLarge(EdifError):
    """Not even the smallest drawing of a result fits the budget of an output."""


class Vocabulary:
    """Ids and texts of the tokens of one output, each written once; arrays hold places in these lists."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._texts: list[str] = []

    def places(self, ids: Any, texts: Any) -> list[int | None]:
        """Places of tokens, flat, in the order of ``ids``; None where there is no token (a negative id)."""
        return [self._place(int(id), str(text)) for id, text in zip(np.ravel(ids), np.ravel(texts), strict=True)]

    def _place(self, id: int, text: str) -> int | None:
        if id < 0:
            return None
        if id not in self._places:
            self._places[id] = len(self._texts)
            self._texts.append(text)
        return self._places[id]

    def as_json(self) -> dict[str, Any]:
        """Ids and texts, side by side."""
        return {"ids": list(self._places), "texts": self._texts}


def figures(values: Any, digits: int = 4) -> list[float | None]:
    """Numbers, flat, with so many digits that count; None where there is no finite number."""
    return [round(float(f"{value:.{digits}g}"), 8) if np.isfinite(value) else None for value in np.ravel(values)]


def fitting(forms: Iterable[dict[str, Any]], budget_bytes: int) -> dict[str, Any]:
    """The first of ``forms``, from whole to most reduced, that fits.

    Raises:
        OutputTooLarge: none does.
    """
    size = 0
    for form in forms:
        size = len(json.dumps(form, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode())
        if size <= budget_bytes:
            return form
    raise OutputTooLarge(
        f"This result is too large to be drawn in a notebook: its smallest drawing has {size / 1e6:.1f} MB, and "
        f"{budget_bytes / 1e6:.1f} MB may be kept in one output. All of it is in .data, and .save('name.edif') "
        "keeps it in a file; to see it here ask for fewer prompts or layers."
    )


def halvings(count: int) -> Iterator[int]:
    """``count``, and its halves down to one."""
    while count > 1:
        yield count
        count = -(-count // 2)
    yield 1


def every(count: int, stride: int) -> list[int]:
    """Places of every ``stride``-th of so many layers, counted from the last one, which is always there."""
    return list(range(count - 1, -1, -stride))[::-1]


def strides(layers: int, columns: int) -> Iterator[int]:
    """Strides over layers, from the smallest of which a page can draw all cells to the last layer alone."""
    stride = -(-layers * columns // CELLS) or 1
    while stride < 2 * layers:
        yield stride
        stride *= 2


def notes_of(reduced: Sequence[str]) -> list[str]:
    """The sentence for what a drawing leaves out; none where it is whole."""
    left = ", ".join(part for part in reduced if part)
    return [f"{_REDUCED}: {left}; all is in .data"] if left else []


def not_finite(names: Sequence[str], bases: Sequence[Any], cells: Sequence[Any]) -> list[str]:
    """What must be said of metrics that gave no finite number; the last axis of baselines and cells is that of metrics.

    Not to be asked of a job that is not done: what is not known yet is not finite either.
    """
    rows = [np.concatenate([np.reshape(part, (-1, len(names))) for part in (*some, ())]) for some in (bases, cells)]
    notes = []
    for number, name in enumerate(names):
        bad = [int((~np.isfinite(part[:, number])).sum()) for part in rows]
        if any(bad):
            said = f"{name} is not finite in {bad[0]} of {len(rows[0])} baselines and {bad[1]} of {len(rows[1])} cells"
            notes.append(f"{said}: these are left empty")
    return notes


def not_finite_cells(values: Any, known: Any, cells: str = "cells") -> list[str]:
    """What must be said where a model's numbers are none; ``known`` tells which cells there are."""
    there = np.asarray(known, dtype=bool)
    bad = int((there & ~np.isfinite(np.asarray(values, dtype=np.float64))).sum())
    return [f"what the model computes is not finite in {bad} of {int(there.sum())} {cells}"] if bad else []


def stopped_note(stopped: Mapping[str, int]) -> str:
    """What is said of a result that is not complete."""
    return f"NOT COMPLETE: stopped after {stopped['done']} of {stopped['of']} steps"


def frame(
    kind: str, title: str, known: Mapping[str, Any], notes: Sequence[str], view: Mapping[str, Any]
) -> dict[str, Any]:
    """What the JSON of every result begins with; ``known`` is its provenance, ``notes`` say what is not known."""
    seconds = known.get("server_seconds", 0.0)
    spent = [f"{seconds:.1f} s beside the weights"] if seconds else []
    spent += known.get("notes", [])
    spent[:0] = [stopped_note(known["stopped"])] if "stopped" in known else []
    return {
        "version": VERSION,
        "kind": kind,
        "title": title,
        "provenance": {
            "model": str(known.get("model", "a model")),
            "dtype": str(known.get("dtype", "dtype not known")),
        },
        "foot": " · ".join([*spent, *(note for note in notes if note)]),
        "view": dict(view),
        # beside such a drawing the view offers a file with all of it
        **({"reduced": True} if any(note.startswith(_REDUCED) for note in notes) else {}),
    }


def table(
    caption: str,
    layers: Sequence[int | str],
    columns: Sequence[str],
    cells: Sequence[Sequence[str]],
    foot: str,
    corner: str = "layer",
) -> str:
    """Layers × positions as plain HTML, the last layer on top; what would be too much is left out, and said to be."""
    kept = every(len(layers), -(-len(layers) * len(columns) // _TABLE_CELLS) or 1)
    left = len(layers) - len(kept)
    said = f"{foot} · {left} layers left out of this table; all are in .data" if left else foot
    head = "".join(f"<th scope='col' style='{_CELL}'>{escape(visible(name))}</th>" for name in (corner, *columns))
    rows = "".join(
        f"<tr><th scope='row'>{layers[row]}</th>"
        + "".join(f"<td style='{_CELL}'>{escape(visible(cell))}</td>" for cell in cells[row])
        + "</tr>"
        for row in reversed(kept)
    )
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<small>{escape(said)}</small>"
    )


def figure(value: float) -> str:
    """One number of a plain table."""
    return f"{value:.3f}" if np.isfinite(value) else "–"
