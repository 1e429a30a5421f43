"""What a tutorial prints: against what it is shipped with, and against what its texts tell of it.

A run is compared with the shipped notebook cell by cell, word for word and number for number, so the whole form of a
study needs no list of figures; cells tagged ``varies`` (times, limits, sampled text) are left out.  Used by
``tests/integration/test_tutorials.py``, ``edif bench tutorials`` and the tests of the shipped notebooks.
"""

from __future__ import annotations

import re
from typing import Any

from nbformat import NotebookNode

from edif.prediction import RESULT_TYPE

#: Tag of a cell that prints something else each time, or on each machine.
VARIES = "varies"
#: By how much a printed number may differ: a part of it, and that much in any case.
RELATIVE, ABSOLUTE = 0.02, 0.02

_NUMBER = re.compile(r"[+\-−]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[+\-]\d+)?")
_TOLD = re.compile(r"^(?:On the demo model|Expected)\b.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
_FOLDED = re.compile(r"<details>.*?</details>", re.DOTALL)


def strayed(run: NotebookNode, shipped: NotebookNode) -> list[str]:
    """A sentence for each cell of the run, a tidied one, that prints something else than the shipped notebook has."""
    kept = {cell.source: cell for cell in shipped.cells if cell.cell_type == "code"}
    found = []
    for cell in run.cells:
        known = kept.get(cell.source) if cell.cell_type == "code" else None
        if known is None or VARIES in cell.metadata.get("tags", []):
            continue
        if not alike(printed(cell), printed(known)):
            found.append(f"{cell.id} prints\n{printed(cell)}\nand is shipped with\n{printed(known)}")
    return found


def printed(cell: NotebookNode) -> str:
    """What the cell has written, and the text of its results; not how long a job took."""
    texts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            texts.append(output.text)
        elif output.get("data", {}).get(RESULT_TYPE, {}).get("kind", "job") != "job":
            texts.append(output.data["text/plain"] + "\n")
    return "".join(texts)


def alike(one: str, other: str) -> bool:
    """The same words in the same order, and numbers that are near each other."""
    if _words(one) != _words(other):
        return False
    pairs = zip(numbers(one), numbers(other), strict=True)
    return all(abs(a - b) <= ABSOLUTE + RELATIVE * max(abs(a), abs(b)) for a, b in pairs)


def numbers(text: str) -> list[float]:
    """Every number of a text; a comma stands before thousands."""
    return [float(found.replace(",", "").replace("−", "-")) for found in _NUMBER.findall(text)]


def _words(text: str) -> list[str]:
    return _NUMBER.sub("#", text).split()


def unfounded(notebook: NotebookNode) -> list[str]:
    """Numbers that a text tells of the demo model, and no output above it has.

    Whole numbers below a thousand are left out: they are layers, counts and names.  What was printed is looked at; and
    where a result was drawn, all of its numbers.
    """
    found: list[str] = []
    above: list[float] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            above += [number for output in cell.outputs for number in _shown(output)]
            continue
        for told in _TOLD.findall(_FOLDED.sub("", cell.source)):
            looked_at = [word for word in _NUMBER.findall(told) if "." in word or "," in word]
            found += [f"{word} in “{told[:60]}…”" for word in looked_at if not _rounded(word, above)]
    return found


def figures_in(text: str) -> list[str]:
    """Every number of a text in any language, sorted; not those of code and links."""
    prose = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", text, flags=re.DOTALL)
    return sorted(re.sub(r"\D", "", found) for found in re.findall(r"\d+(?:[.,\s]?\d+)*", prose))


def _rounded(word: str, above: list[float]) -> bool:
    """Whether one of the numbers is this one, rounded; a text may leave out a sign."""
    number, last_digit = abs(numbers(word)[0]), 10.0 ** -len(word.partition(".")[2])
    return any(abs(abs(one) - number) <= 0.5 * last_digit + 1e-9 for one in above)


def _shown(output: NotebookNode) -> list[float]:
    if output.output_type == "stream":
        return numbers(output.text)
    data = output.get("data", {})
    return [*numbers(data.get("text/plain", "")), *_leaves(data.get(RESULT_TYPE))]


def _leaves(value: Any) -> list[float]:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [float(value)]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for one in inner for number in _leaves(one)]
