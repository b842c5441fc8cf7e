"""The project's own source as syntax trees, for the tests that hold the house."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

PACKAGE = ROOT / "reconciler"


def files(*places: str) -> list[Path]:
    """The Python files at these places, each a file or a directory below the project's root."""
    found: list[Path] = []
    for place in places:
        path = ROOT / place
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def shown(path: Path, node: ast.AST | None = None) -> str:
    """Where something is, as a person would write it."""
    line = "" if node is None else f":{getattr(node, 'lineno', 0)}"
    return f"{path.relative_to(ROOT)}{line}"


def module_of(path: Path) -> str:
    """The name under which a file of the package is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[tuple[str, ast.stmt], ...]:
    """The modules that a file imports, also inside of functions and for types only.

    `from package import module` counts as an import of the module.
    """
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{shown(path, node)} imports by a relative name"
            found += [(_target(node.module or "", alias.name), node) for alias in node.names]
    return tuple(found)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions and methods of a file."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def yields(call: ast.Call) -> bool:
    """Whether a call of a sleep is `sleep(0)`, which does not wait and only lets others run."""
    return [ast.unparse(argument) for argument in call.args] == ["0"]


def _target(module: str, name: str) -> str:
    """What `from module import name` loads: a module of ours if there is one of that name, else `module`."""
    inner = ROOT.joinpath(*module.split("."), name)
    return f"{module}.{name}" if inner.is_dir() or inner.with_suffix(".py").is_file() else module
