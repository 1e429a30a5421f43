"""Sizes, names and docstrings (STYLE.md)."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

FILE_LINES = 400
FUNCTION_LINES = 50
BANNED = {"util", "utils", "common", "helper", "helpers", "base", "manager", "processor"}
SHARED_NAMES = {"settings.py", "errors.py", "__init__.py", "__main__.py", "conftest.py"}
TOP_FOLDERS = ("backend", "kernels", "hub", "extensions", "notebooks", "deploy", "tests")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def words(name: str) -> set[str]:
    """The words of a name in snake_case, CamelCase or kebab-case, small."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstring_lines(node: Function) -> int:
    if ast.get_docstring(node) is None:
        return 0
    first = node.body[0]
    return (first.end_lineno or first.lineno) - first.lineno + 1


def long_functions(module: ast.Module) -> Iterator[tuple[str, int]]:
    """Functions over the limit with their lines, docstring not counted."""
    for node in ast.walk(module):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
            if lines > FUNCTION_LINES:
                yield node.name, lines


def banned_names(path: Path, module: ast.Module) -> list[str]:
    """The file's and its classes' names that hold a banned word."""
    classes = [node.name for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    return [name for name in [path.stem, *classes] if BANNED & words(name)]


def test_files_are_short(product: list[Path], tests: list[Path], front_end: list[Path], root: Path) -> None:
    counted = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in [*product, *tests, *front_end]}
    assert {str(path.relative_to(root)): n for path, n in counted.items() if n > FILE_LINES} == {}


def test_functions_are_short(product: list[Path], tests: list[Path], root: Path) -> None:
    assert [(str(p.relative_to(root)), *f) for p in [*product, *tests] for f in long_functions(tree(p))] == []


def test_names_say_something(product: list[Path], root: Path) -> None:
    assert [(str(p.relative_to(root)), n) for p in product for n in banned_names(p, tree(p))] == []


def test_front_end_names_say_something(front_end: list[Path]) -> None:
    assert [path.name for path in front_end if BANNED & words(path.name)] == []


def test_module_names_are_unique(product: list[Path]) -> None:
    # jobs.py in two packages is two meanings of one word.
    counted = Counter(path.name for path in product if path.name not in SHARED_NAMES)
    assert [name for name, times in counted.items() if times > 1] == []


def test_test_names_are_unique(tests: list[Path]) -> None:
    # Without packages around them, two tests of one name cannot be imported together.
    counted = Counter(path.name for path in tests if path.name != "conftest.py")
    assert [name for name, times in counted.items() if times > 1] == []


@pytest.mark.parametrize("folder", TOP_FOLDERS)
def test_top_folder_is_no_package(root: Path, folder: str) -> None:
    # kernels/__init__.py would shadow a package that transformers imports.
    assert not (root / folder / "__init__.py").exists()


def test_modules_introduce_themselves(product: list[Path], root: Path) -> None:
    introductions = {path: ast.get_docstring(tree(path)) or "" for path in product}
    assert [str(path.relative_to(root)) for path, text in introductions.items() if len(text.split()) < 5] == []


def test_front_end_introduces_itself(front_end: list[Path], root: Path) -> None:
    shipped = [path for path in front_end if "tests" not in path.parts]
    assert [str(p.relative_to(root)) for p in shipped if not p.read_text(encoding="utf-8").startswith("// ")] == []


def test_no_machine_path_and_no_host(product: list[Path], front_end: list[Path], root: Path) -> None:
    machine = re.compile(r"[\"'](/work|/opt|/home|/root)/|registry\.npmjs|pypi\.org|files\.pythonhosted")
    assert [str(p.relative_to(root)) for p in [*product, *front_end] if machine.search(p.read_text("utf-8"))] == []


def test_long_functions_are_noticed() -> None:
    body = "\n".join("    x = 1" for _ in range(FUNCTION_LINES))
    assert list(long_functions(ast.parse(f"async def f():\n{body}"))) == [("f", FUNCTION_LINES + 1)]
    explained = f'def f():\n    """One.\n\n    Two.\n    """\n{body[10:]}'
    assert list(long_functions(ast.parse(explained))) == []


def test_banned_names_are_noticed() -> None:
    module = ast.parse("class HTTPManager: ...\nclass Database: ...\nclass Unhelpful: ...")
    assert banned_names(Path("file_utils.py"), module) == ["file_utils", "HTTPManager"]
