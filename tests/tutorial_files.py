"""The tutorials as files, and what runs them: text, notebook and translation in step, cells through the eDIF kernel.

``notebooks/NAME.py`` is what is written (jupytext), ``NAME.ipynb`` the same with outputs, ``NAME.de.md`` the German
text of its Markdown cells and ``NAME.de.ipynb`` what comes of both.  Used by tests and ``edif bench tutorials``.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, output_from_msg

from edif.prediction import RESULT_TYPE

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / "notebooks"
LANGUAGES = ("de",)
#: What a cell may take on a machine that has other work to do.
CELL_S = 240
#: Tags of cells: left out of ``./edif test``, and made of a text's solution.
LONG, SOLUTION = "long", "solution"

_MARK = re.compile(r"^<!-- ([0-9a-f]{8}) -->$", re.MULTILINE)
_FENCE = re.compile(r"^```python\n.*?^```$", re.MULTILINE | re.DOTALL)
_SOLUTION = re.compile(r"<details>.*?</details>", re.DOTALL)
#: Shown by a running front end alone: nothing of them is left when a notebook is opened again.
_FLEETING = "application/vnd.jupyter.widget-view+json"
#: nnsight's line about a job's state; what the block has printed is a line of the same kind, with LOG.
_STATE = re.compile(r"bold\">(?!LOG\b)[A-Z]+ *</span>")


def names() -> list[str]:
    """The tutorials, in their order."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def assembled(name: str) -> NotebookNode:
    """A tutorial without outputs, from its text."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02}"
    return notebook


def saved(name: str, language: str = "") -> NotebookNode:
    """A tutorial as it is shipped."""
    return nbformat.read(_file(name, language), as_version=4)


def save(notebook: NotebookNode, name: str, language: str = "") -> None:
    """Write a tutorial as it is shipped."""
    nbformat.write(notebook, _file(name, language))


def _file(name: str, language: str) -> Path:
    return FOLDER / f"{name}{'.' * bool(language)}{language}.ipynb"


# -- translations -------------------------------------------------------------


def digest(text: str) -> str:
    """What a translated cell is found by: when the English text changes, its translation is stale."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def catalogue(name: str, language: str) -> dict[str, str] | None:
    """Translated Markdown by the digest of the English; None where nobody has begun."""
    file = FOLDER / f"{name}.{language}.md"
    if not file.exists():
        return None
    parts = _MARK.split(file.read_text(encoding="utf-8"))
    return {mark: text.strip("\n") for mark, text in zip(parts[1::2], parts[2::2], strict=True)}


def stale(notebook: NotebookNode, known: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Digests of English cells that have no translation, and of translations that have no English cell."""
    wanted = [digest(cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    return [mark for mark in wanted if mark not in known], [mark for mark in known if mark not in wanted]


def translated(notebook: NotebookNode, known: Mapping[str, str]) -> NotebookNode:
    """The notebook with its texts in another language; code, and code in texts, stays what it is."""
    made = copy.deepcopy(notebook)
    for cell in made.cells:
        text = known.get(digest(cell.source)) if cell.cell_type == "markdown" else None
        if text is not None:
            code = iter(_FENCE.findall(cell.source))
            cell.source = _FENCE.sub(lambda found, code=code: next(code, found.group()), text)
    return made


# -- solutions ----------------------------------------------------------------


def solutions(markdown: str) -> list[str]:
    """Python that a reader unfolds in this text."""
    return [
        fence.removeprefix("```python\n").removesuffix("```")
        for fold in _SOLUTION.findall(markdown)
        for fence in _FENCE.findall(fold)
    ]


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """The notebook with every solution as a cell where it stands."""
    made = copy.deepcopy(notebook)
    shown_cells, made.cells = made.cells, []
    for shown in shown_cells:
        made.cells.append(shown)
        if shown.cell_type == "markdown":
            tags = {"tags": [SOLUTION, *_tags(shown)]}
            made.cells += [new_code_cell(code, metadata=tags) for code in solutions(shown.source)]
    return made


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """A notebook that was run with its solutions as if they had not been there."""
    made = copy.deepcopy(notebook)
    made.cells = [cell for cell in made.cells if SOLUTION not in _tags(cell)]
    executed = (cell for cell in made.cells if cell.get("execution_count"))
    for number, cell in enumerate(executed, 1):
        cell.execution_count = number
    return made


def shortened(notebook: NotebookNode) -> NotebookNode:
    """The notebook without the cells that take long."""
    made = copy.deepcopy(notebook)
    made.cells = [cell for cell in made.cells if LONG not in _tags(cell)]
    return made


def _tags(cell: NotebookNode) -> list[str]:
    tags: list[str] = cell.metadata.get("tags", [])
    return tags


# -- running ------------------------------------------------------------------


class CellFailed(Exception):
    """A cell raised."""


class Outputs:
    """What a cell shows, put together from the kernel's messages as a front end does."""

    def __init__(self) -> None:
        self.shown: list[NotebookNode] = []
        self._named: dict[str, NotebookNode] = {}
        self._clear = False

    def take(self, message: dict[str, Any]) -> None:
        """One message of the kernel."""
        kind, content = message["msg_type"], message["content"]
        if kind == "clear_output":
            self._clear = True
            if not content["wait"]:
                self.shown.clear()
        name = content.get("transient", {}).get("display_id")
        if kind == "update_display_data" and name in self._named:
            self._named[name].data = NotebookNode(content["data"])
        if kind not in ("stream", "display_data", "execute_result", "error"):
            return
        if self._clear:
            self.shown.clear()
            self._clear = False
        output = output_from_msg(message)
        last = self.shown[-1] if self.shown else None
        if kind == "stream" and last is not None and last.get("name") == output.name:
            last.text += output.text
        else:
            self.shown.append(output)
            if name:
                self._named[name] = output


class Tutor:
    """A running eDIF kernel that goes through tutorials, one after another, each as in a new kernel."""

    def __init__(self, manager: KernelManager, cell_s: float = CELL_S) -> None:
        self._cell_s = cell_s
        self._client: BlockingKernelClient = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=cell_s)

    def run(self, notebook: NotebookNode) -> list[float]:
        """Run every cell; outputs are in the notebook afterwards.  Gives the seconds of each code cell.

        Raises:
            CellFailed: a cell raised; later ones were not run.
        """
        self._run("get_ipython().reset(new_session=False)", lambda message: None)
        took: list[float] = []
        for cell in notebook.cells:
            if cell.cell_type != "code" or not cell.source.strip():
                continue
            outputs, began = Outputs(), time.monotonic()
            cell.outputs, cell.execution_count = outputs.shown, len(took) + 1
            self._run(cell.source, outputs.take, history=True)  # nnsight finds a cell's source there
            took.append(time.monotonic() - began)
        return took

    def value(self, expression: str) -> Any:
        """What an expression is now in the kernel: numbers, texts and lists of them."""
        outputs = Outputs()
        self._run(f"import json\nprint(json.dumps({expression}, default=lambda one: one.item()))", outputs.take)
        return json.loads(outputs.shown[-1].text)

    def _run(self, code: str, take: Callable[[dict[str, Any]], None], *, history: bool = False) -> None:
        reply = self._client.execute_interactive(
            code, store_history=history, allow_stdin=False, timeout=self._cell_s, output_hook=take
        )["content"]
        if reply["status"] != "ok":
            told = "\n".join(reply.get("traceback", []))
            raise CellFailed(f"{code}\n{reply.get('ename')}: {reply.get('evalue')}\n{told}")

    def close(self) -> None:
        """End the kernel's channels."""
        self._client.stop_channels()


@contextmanager
def tutor(environment: Mapping[str, str], folder: Path, cell_s: float = CELL_S) -> Iterator[Tutor]:
    """A kernel with these variables in ``folder``, as long as the block lasts; a cell may take ``cell_s``."""
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "OMP_NUM_THREADS": "1"}
    kernels = CHECKOUT / "kernels" / "edif_kernel" / "jupyter" / "kernels"
    manager = KernelManager(
        kernel_name="edif",
        kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(kernels)], ensure_native_kernel=False),
    )
    manager.start_kernel(env={**environment, **quiet}, cwd=str(folder))
    try:
        found = Tutor(manager, cell_s)
        yield found
        found.close()
    finally:
        manager.shutdown_kernel(now=True)


def tidied(notebook: NotebookNode) -> NotebookNode:
    """What is kept of a run: no bars, no execution times, no picture beside what is drawn from the numbers."""
    made = copy.deepcopy(notebook)
    made.metadata = {"kernelspec": made.metadata.kernelspec, "language_info": {"name": "python"}}
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not _fleeting(output)]
        for output in cell.outputs:
            if "data" in output and len(output.data) > 1:
                output.data.pop("image/png", None)
    return made


def _fleeting(output: NotebookNode) -> bool:
    bar = output.output_type == "stream" and output.name == "stderr"
    data = output.get("data", {})
    job = data.get(RESULT_TYPE, {})
    told = job.get("kind") == "job" and not job["log"]  # what the block has printed is kept
    return bar or told or _FLEETING in data or _STATE.search(data.get("text/html", "")) is not None
