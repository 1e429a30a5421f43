"""Notebooks in nbgrader's format: what is in them for the instructor alone, taken out; the points they are worth.

Pure; called when an assignment is released.  The metadata and the marks in the source are nbgrader's (schema 1 to 3),
so notebooks written for it are released as they are, and graded with it.
"""

from __future__ import annotations

import json
import re
from typing import Any

from edif_courses.errors import Unusable

_SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)### BEGIN SOLUTION.*?^[ \t]*### END SOLUTION[^\n]*\n?", re.MULTILINE | re.DOTALL
)
_HIDDEN = re.compile(r"^[ \t]*### BEGIN HIDDEN TESTS.*?^[ \t]*### END HIDDEN TESTS[^\n]*\n?", re.MULTILINE | re.DOTALL)
_LEFT = re.compile(r"###\s*(BEGIN|END)\s+(SOLUTION|HIDDEN TESTS)")
_STUBBED = re.compile(r"YOUR (CODE|ANSWER) HERE|NotImplementedError")
_CODE_STUB = "# YOUR CODE HERE\nraise NotImplementedError()"
_TEXT_STUB = "YOUR ANSWER HERE"


def read_notebook(content: bytes, name: str) -> dict[str, Any]:
    """The notebook of a file.

    Raises:
        Unusable: it is none of format 4, or an autograded cell stands in it twice.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise Unusable(f"{name} is not a notebook: it is not JSON.") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list) or found.get("nbformat") != 4 or not all(_is_cell(cell) for cell in cells):
        raise Unusable(f"{name} is not a notebook of format 4: open it in JupyterLab and save it there.")
    names = [grade["grade_id"] for cell in cells if "grade_id" in (grade := _grading(cell))]
    twice = sorted({str(id) for id in names if names.count(id) > 1})
    if twice:
        raise Unusable(f"{name} has two cells of nbgrader with the name {twice[0]!r}: give one another name.")
    return dict(found)


def points(notebook: dict[str, Any]) -> float:
    """What its graded cells are worth together."""
    graded = [_grading(cell) for cell in notebook["cells"]]
    return sum(float(g["points"]) for g in graded if g.get("grade") and isinstance(g.get("points"), int | float))


def student_version(notebook: dict[str, Any], name: str) -> dict[str, Any]:
    """The notebook without solutions, hidden tests and outputs, its tests locked: as nbgrader hands it out.

    Raises:
        Unusable: a mark begins and does not end.
    """
    cells = [_student_cell(cell, number, name) for number, cell in enumerate(notebook["cells"], 1)]
    return {**notebook, "cells": cells}


def _student_cell(cell: dict[str, Any], number: int, name: str) -> dict[str, Any]:
    grading, code = _grading(cell), cell["cell_type"] == "code"
    stub = _CODE_STUB if code else _TEXT_STUB
    before = _source(cell)
    source = _SOLUTION.sub(lambda found: _indented(stub, found["indent"]), before)
    if grading.get("solution") and source == before and not grading.get("task") and not _STUBBED.search(source):
        source = stub  # a cell to be filled in, without marks: all of it is the solution
    source = _HIDDEN.sub("", source)
    if _LEFT.search(source):
        raise Unusable(
            f"{name}, cell {number}: a BEGIN SOLUTION or BEGIN HIDDEN TESTS has no END. Nothing was released."
        )
    made = {**cell, "source": source}
    if grading.get("locked") or (grading.get("grade") and not grading.get("solution")):
        made["metadata"] = {**made["metadata"], "editable": False, "deletable": False}
    if code:
        made |= {"outputs": [], "execution_count": None}
    return made


def _indented(stub: str, indent: str) -> str:
    return "".join(f"{indent}{line}\n" for line in stub.splitlines())


def _is_cell(cell: object) -> bool:
    return (
        isinstance(cell, dict)
        and cell.get("cell_type") in {"code", "markdown", "raw"}
        and isinstance(cell.get("metadata"), dict)
        and isinstance(cell.get("source"), str | list)
    )


def _grading(cell: dict[str, Any]) -> dict[str, Any]:
    found = cell["metadata"].get("nbgrader")
    return found if isinstance(found, dict) else {}


def _source(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(map(str, source))
