"""``edif bench tutorials``: runs the tutorials against the workbench that is up, and says what each took.

Every cell and every solution is run; what is printed is compared with the shipped notebook, and the key figures
(``tests/tutorial_figures.py``) with those of the texts.  ``--short`` is the form that ``./edif test`` runs, without the
cells that take long.  With ``--write`` the outputs are kept in the notebooks and the translations are made anew; with
``--texts`` the notebooks get the texts of today and keep their outputs, and nothing is run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _key import new_key

import tutorial_files as files
from tutorial_figures import differing
from tutorial_told import strayed

#: Where the notebooks of the last run are, with the outputs of their solutions; ignored by git.
RUN = files.CHECKOUT / ".artifacts" / "tutorials"


def write(name: str, notebook: files.NotebookNode) -> None:
    """Keep a notebook and its translations."""
    files.save(notebook, name)
    for language in files.LANGUAGES:
        known = files.catalogue(name, language)
        if known is not None:
            files.save(files.translated(notebook, known), name, language)


def texts_alone(name: str) -> None:
    """The notebook with the texts of today; outputs stay where the code is the same."""
    notebook, before = files.assembled(name), files.saved(name)
    kept = {cell.source: cell for cell in before.cells if cell.cell_type == "code"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.source in kept:
            cell.outputs = kept[cell.source].outputs
            cell.execution_count = kept[cell.source].execution_count
    write(name, notebook)


def told(notebook: files.NotebookNode) -> str:
    """What its solutions have printed: for the texts beside them."""
    cells = [cell for cell in notebook.cells if files.SOLUTION in cell.metadata.get("tags", [])]
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def measured(chosen: list[str], short: bool, keep: bool) -> list[dict[str, Any]]:
    """Run tutorials in one kernel; seconds, the slowest cells, and what went wrong."""
    rows: list[dict[str, Any]] = []
    environment = {**os.environ, "NDIF_API_KEY": new_key()}
    with tempfile.TemporaryDirectory() as folder, files.tutor(environment, Path(folder)) as tutor:
        for name in chosen:
            notebook = files.with_solutions(files.assembled(name))
            notebook = files.shortened(notebook) if short else notebook
            took: list[float] = []
            began, error = time.monotonic(), ""
            try:
                took = tutor.run(notebook)
                error = "\n".join(
                    [*strayed(files.tidied(notebook), files.saved(name)), *differing(name, tutor.value, short=short)]
                )
            except files.CellFailed as raised:
                error = str(raised)[-3000:]
            slowest = sorted(range(1, len(took) + 1), key=lambda cell: -took[cell - 1])[:4]
            rows.append(
                {
                    "tutorial": name,
                    "seconds": round(time.monotonic() - began, 1),
                    "load": round(os.getloadavg()[0], 1),
                    "slowest": {cell: round(took[cell - 1], 1) for cell in slowest},
                    "error": error,
                }
            )
            print(f"{rows[-1]}\n{error}\n{told(notebook)}", file=sys.stderr)
            RUN.mkdir(parents=True, exist_ok=True)
            files.nbformat.write(notebook, RUN / f"{name}.ipynb")
            if keep and took and not short:
                write(name, files.tidied(files.without_solutions(notebook)))
    return rows


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="which; all by default")
    parser.add_argument("--short", action="store_true", help="without the cells that take long, as ./edif test")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    parser.add_argument("--texts", action="store_true", help="bring texts up to date, and run nothing")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    chosen = asked.names or files.names()
    if asked.texts:
        for name in chosen:
            texts_alone(name)
        return
    rows = measured(chosen, asked.short, asked.write)
    if asked.json:
        print(json.dumps({"benchmark": "tutorials", "cores": os.cpu_count(), "tutorials": rows}))
    else:
        table = Table("tutorial", "seconds", "load", "slowest cells (seconds)", "went wrong")
        for row in rows:
            slowest = ", ".join(f"{cell} ({took})" for cell, took in row["slowest"].items())
            wrong = row["error"].splitlines()[-1][:80] if row["error"] else ""
            table.add_row(row["tutorial"], str(row["seconds"]), str(row["load"]), slowest, wrong)
        Console(width=140).print(table)
    if any(row["error"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
