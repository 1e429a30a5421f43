"""Every tutorial and the solutions of its exercises, run by one eDIF kernel against the real backend.

The short form: cells tagged ``long`` are left out, ``edif bench tutorials`` runs them too.  The notebook is saved and
opened again; what it holds then is compared with the shipped one, and key figures with those that the texts tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbformat.v4 import new_code_cell
from tests.tutorial_figures import FIGURES, Figure, differing
from tests.tutorial_told import strayed

from tests import tutorial_files as files

if TYPE_CHECKING:
    from conftest import Workbench

#: Notebooks as this test has run them, with the solutions' outputs.
KEPT = files.CHECKOUT / ".artifacts" / "tutorials"


@pytest.fixture(scope="module")
def tutor(workbench: Workbench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[files.Tutor]:
    folder = tmp_path_factory.mktemp("tutorials")
    with files.tutor(workbench.environment("student"), folder) as running:
        yield running


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", files.names())
def test_a_tutorial_says_what_its_text_tells(tutor: files.Tutor, name: str) -> None:
    notebook = files.shortened(files.with_solutions(files.assembled(name)))
    try:
        tutor.run(notebook)
    finally:
        KEPT.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, KEPT / f"{name}.ipynb")
    reopened = nbformat.read(KEPT / f"{name}.ipynb", as_version=4)
    nbformat.validate(reopened)
    assert strayed(files.tidied(reopened), files.saved(name)) == []
    assert differing(name, tutor.value, short=True) == []


def test_every_study_has_figures_that_the_short_form_compares() -> None:
    studies = {name for name in files.names() if name[0].isdigit()}
    assert {name for name, figures in FIGURES.items() if not all(figure.long for figure in figures)} == studies


def test_a_cell_that_raises_and_a_figure_that_differs_are_told(tutor: files.Tutor) -> None:
    notebook = files.assembled("glossary")
    notebook.cells = [new_code_cell("1 / 0")]
    with pytest.raises(files.CellFailed, match="ZeroDivisionError"):
        tutor.run(notebook)
    notebook.cells = [new_code_cell("n = [1, float('nan')]")]
    tutor.run(notebook)
    assert not Figure("n", [1, 1], 0.5).fits(tutor.value("n"))
