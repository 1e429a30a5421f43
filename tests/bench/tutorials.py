"""``edif bench tutorials``: runs the tutorials against the workbench that is up, and says what each took.

With ``--write`` their outputs are kept in the notebooks and the translations are made anew; with ``--texts`` the
notebooks get the texts of today and keep their outputs, and nothing is run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _key import new_key

import tutorial_files as files


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


def measured(chosen: list[str], keep: bool) -> list[dict[str, object]]:
    """Run tutorials in one kernel; seconds, and the error where one ended with one."""
    rows: list[dict[str, object]] = []
    environment = {**os.environ, "NDIF_API_KEY": new_key()}
    with tempfile.TemporaryDirectory() as folder, files.tutor(environment, Path(folder)) as tutor:
        for name in chosen:
            notebook = files.assembled(name)
            began, error = time.monotonic(), ""
            try:
                tutor.run(notebook)
            except files.CellFailed as raised:
                error = str(raised)[-3000:]
            rows.append({"tutorial": name, "seconds": round(time.monotonic() - began, 1), "error": error})
            print(f"{name}: {rows[-1]['seconds']} s {error}", file=sys.stderr)
            if keep and not error:
                write(name, files.tidied(notebook))
    return rows


def main() -> None:
    """Print a table, or one JSON object."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help="which; all by default")
    parser.add_argument("--write", action="store_true", help="keep the outputs in the notebooks")
    parser.add_argument("--texts", action="store_true", help="bring texts up to date, and run nothing")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    chosen = asked.names or files.names()
    if asked.texts:
        for name in chosen:
            texts_alone(name)
        return
    rows = measured(chosen, asked.write)
    if asked.json:
        print(json.dumps({"benchmark": "tutorials", "cores": os.cpu_count(), "tutorials": rows}))
    else:
        table = Table("tutorial", "seconds", "failed")
        for row in rows:
            table.add_row(str(row["tutorial"]), str(row["seconds"]), "yes" if row["error"] else "")
        Console().print(table)
    if any(row["error"] for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
