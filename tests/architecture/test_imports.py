"""Who may import whom (DESIGN §3): direction of our packages, home of each library, no unpickling in the open."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

if TYPE_CHECKING:
    from tests.architecture.conftest import Run

PACKAGES = ("edif_protocol", "edif_backend", "edif_courses", "edif_hub", "edif", "edif_kernel", "edif_widgets")

MODEL_SIDE = ("edif_backend.executors", "edif_backend.models", "edif", "edif_kernel")
#: Each library and the only packages that import it; a name covers what is below it.
HOMES = {
    "ray": ("edif_backend.replicas",),
    "torch": MODEL_SIDE,
    "nnsight": MODEL_SIDE,
    "transformers": MODEL_SIDE,
    "fastapi": ("edif_backend.gateway", "edif_courses"),
    "starlette": ("edif_backend.gateway", "edif_courses"),
    "uvicorn": ("edif_backend.gateway", "edif_courses"),
    "jinja2": ("edif_backend.gateway", "edif_courses", "edif_hub.page_policy"),
    "sqlite3": ("edif_backend.jobs", "edif_courses", "edif_hub.course_hooks"),
    "psycopg": ("edif_backend.jobs",),
    "sqlalchemy": ("edif_backend.jobs", "edif_hub"),
    "minio": ("edif_backend.objects",),
    "jupyterhub": ("edif_hub",),
    "supervisor": ("edif_backend.cli",),
    "ipykernel": ("edif_kernel",),
    "IPython": ("edif_kernel", "edif"),
}

#: User code runs when its pickle is read: only the sandboxed executor does that, and a client with its own results.
UNPICKLES = ("edif_backend/executors/executor.py", "edif/", "edif_kernel/")


@pytest.fixture(scope="module")
def graph(request: pytest.FixtureRequest) -> grimp.ImportGraph:
    root: Path = request.getfixturevalue("root")
    with pytest.MonkeyPatch.context() as patch:
        for house in ("backend", "kernels", "hub", "extensions"):
            patch.syspath_prepend(str(root / house))
        return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


def strangers(graph: grimp.ImportGraph, library: str, homes: tuple[str, ...]) -> list[str]:
    """Modules outside ``homes`` that import ``library``."""
    if library not in graph.modules:
        return []
    importers = graph.find_modules_that_directly_import(library)
    return sorted(m for m in importers if not any(m == home or m.startswith(f"{home}.") for home in homes))


def test_contracts_are_kept(run: Run) -> None:
    answer = run("lint-imports", "--no-cache")
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("library", sorted(HOMES))
def test_library_stays_at_home(graph: grimp.ImportGraph, library: str) -> None:
    assert strangers(graph, library, HOMES[library]) == []


def test_a_stranger_is_noticed() -> None:
    graph = grimp.ImportGraph()
    for module in ("ray", "edif_backend.replicas.actor", "edif_backend.replicasque"):
        graph.add_module(module)
    for importer in ("edif_backend.replicas.actor", "edif_backend.replicasque"):
        graph.add_import(importer=importer, imported="ray")
    assert strangers(graph, "ray", HOMES["ray"]) == ["edif_backend.replicasque"]


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("edif_backend.gateway.app", {"torch", "nnsight", "transformers", "ray", "numpy"}),
        ("edif_backend.dispatch.__main__", {"torch", "nnsight", "transformers", "fastapi"}),
        ("edif_backend.cli.main", {"torch", "nnsight", "transformers", "ray", "fastapi", "numpy"}),
        ("edif_protocol.installation", {"torch", "numpy", "httpx", "fastapi", "structlog"}),
        ("edif_protocol.wire", {"torch", "numpy", "httpx", "fastapi", "structlog"}),
        ("edif_widgets", {"torch", "numpy", "IPython", "pydantic"}),
    ],
)
def test_process_starts_light(run: Run, module: str, absent: set[str]) -> None:
    answer = run(sys.executable, "-c", f"import {module}, sys; print(*sys.modules)")
    assert answer.returncode == 0, answer.stderr
    loaded = set(answer.stdout.split())
    assert module in loaded
    assert not absent & loaded


def unpickling(tree: ast.AST) -> list[int]:
    """Lines that read a pickle: ``pickle.loads``, ``torch.load``, ``Unpickler`` and their kin."""
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            pickles = node.value.id in {"pickle", "cloudpickle", "dill", "marshal", "joblib"}
            if (pickles and node.attr in {"load", "loads", "Unpickler"}) or (node.value.id, node.attr) == (
                "torch",
                "load",
            ):
                lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module in {"pickle", "cloudpickle", "dill"}:
            lines.extend(node.lineno for name in node.names if name.name in {"load", "loads", "Unpickler"})
    return lines


def test_only_the_sandbox_unpickles(product: list[Path], root: Path) -> None:
    found = [
        f"{path.relative_to(root)}:{line}"
        for path in product
        if not any(allowed in path.as_posix() for allowed in UNPICKLES)
        for line in unpickling(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line", ["pickle.loads(x)", "from pickle import loads", "torch.load(f)", "class U(pickle.Unpickler): ..."]
)
def test_unpickling_is_noticed(line: str) -> None:
    assert unpickling(ast.parse(line)) == [1]


def test_pickling_alone_is_fine() -> None:
    assert unpickling(ast.parse("pickle.dumps(x); json.loads(y); torch.save(z, f)")) == []
