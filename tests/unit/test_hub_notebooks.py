"""The shipped notebooks: text and notebook say the same, outputs are real, small and from no particular machine."""

from __future__ import annotations

import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from edif_hub.shipped import package_folder, tutorials_folder

NOTEBOOKS = sorted(tutorials_folder().glob("*.ipynb"))


def test_there_are_notebooks_and_packages_beside_the_hub() -> None:
    assert NOTEBOOKS[0].name == "00_hello.ipynb"
    assert (package_folder("edif_kernel") / "jupyter" / "kernels" / "edif" / "kernel.json").is_file()
    with pytest.raises(ModuleNotFoundError, match=r"\./edif up"):
        package_folder("edif_nowhere")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_text_and_notebook_say_the_same(path: Path) -> None:
    text = jupytext.read(path.with_suffix(".py"))
    notebook = nbformat.read(path, as_version=4)
    assert [(cell.cell_type, cell.source) for cell in notebook.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ], f"in a terminal of a user server: jupytext --to ipynb --execute {path.with_suffix('.py').name}"
    assert notebook.metadata.kernelspec.name == "edif"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_there_small_and_from_no_particular_machine(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert any(cell.outputs for cell in code)
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    assert path.stat().st_size < 100_000
    assert not re.search(r"/(home|root|work|tmp|usr)/|127\.0\.0\.1|localhost", path.read_text(encoding="utf-8"))
