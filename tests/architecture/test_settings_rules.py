"""Settings are documented and read in one place; importing a module does nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

READERS = {"settings.py", "installation.py"}
#: JupyterHub executes its configuration; the others are programs.
COMPOSITION_ROOTS = {"jupyterhub_config.py", "__main__.py"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def environment_reads(module: ast.Module) -> list[int]:
    """Lines that read the environment; setting or removing a variable of one's own process is no reading."""
    set_here = {
        id(node.value)
        for node in ast.walk(module)
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store)
    }
    called = [
        node.value.func for node in ast.walk(module) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    set_here |= {id(func.value) for func in called if isinstance(func, ast.Attribute) and func.attr == "pop"}
    lines = []
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            if node.attr in {"environ", "environb", "getenv"} and id(node) not in set_here:
                lines.append(node.lineno)
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            lines.extend(node.lineno for name in node.names if name.name in {"environ", "getenv"})
    return lines


def undocumented(module: ast.Module) -> list[str]:
    """Fields of settings classes that are not ``Field(…, description="…")``."""
    classes = [
        node
        for node in ast.walk(module)
        if isinstance(node, ast.ClassDef) and any(ast.unparse(parent).endswith("Settings") for parent in node.bases)
    ]
    fields = [(owner, field) for owner in classes for field in owner.body if isinstance(field, ast.AnnAssign)]
    return [f"{owner.name}.{ast.unparse(field.target)}" for owner, field in fields if not described(field.value)]


def described(value: ast.expr | None) -> bool:
    if not isinstance(value, ast.Call) or ast.unparse(value.func) != "Field":
        return False
    given = [word.value for word in value.keywords if word.arg == "description"]
    return any(not isinstance(text, ast.Constant) or len(str(text.value).split()) > 1 for text in given)


def built_at_import(module: ast.Module) -> list[int]:
    """Lines at module level that build settings, connect, or parse arguments."""
    lines = []
    for statement in module.body:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If):
            continue  # what a class or a function holds runs later; `if` guards __main__ and TYPE_CHECKING
        for node in ast.walk(statement):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name.endswith(("Settings", "Installation", "connect", "parse_args")):
                    lines.append(node.lineno)
    return lines


def test_settings_are_documented(product: list[Path]) -> None:
    found = [path for path in product if path.name in READERS]
    assert found
    assert [name for path in found for name in undocumented(tree(path))] == []


def test_settings_live_in_their_files(product: list[Path], root: Path) -> None:
    elsewhere = [path for path in product if path.name not in READERS]
    assert [str(path.relative_to(root)) for path in elsewhere if undocumented(tree(path))] == []


def test_environment_is_read_in_one_place(product: list[Path], root: Path) -> None:
    found = [
        f"{path.relative_to(root)}:{line}"
        for path in product
        if path.name not in READERS
        for line in environment_reads(tree(path))
    ]
    assert found == []


def test_importing_does_nothing(product: list[Path], root: Path) -> None:
    found = [
        f"{path.relative_to(root)}:{line}"
        for path in product
        if path.name not in COMPOSITION_ROOTS
        for line in built_at_import(tree(path))
    ]
    assert found == []


@pytest.mark.parametrize("line", ["os.environ['A']", "os.getenv('A')", "from os import environ", "dict(os.environ)"])
def test_reading_the_environment_is_noticed(line: str) -> None:
    assert environment_reads(ast.parse(line)) == [1]


def test_setting_a_variable_is_no_reading() -> None:
    assert environment_reads(ast.parse("os.environ['A'] = '1'")) == []


@pytest.mark.parametrize(
    "field", ["a: int = 1", "a: int", "a: int = Field(default=1)", "a: int = Field(1, description='')"]
)
def test_an_undocumented_field_is_noticed(field: str) -> None:
    assert undocumented(ast.parse(f"class HubSettings(TomlSettings):\n    {field}")) == ["HubSettings.a"]


def test_building_at_import_is_noticed() -> None:
    assert built_at_import(ast.parse("x = 1\nhome = Installation().home")) == [2]
