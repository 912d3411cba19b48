"""The imports of our modules, read from the source: nothing is imported for it."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests import ROOT


def path_of(module: str) -> Path | None:
    """Return the file of one of our modules; None if there is no such module."""
    base = ROOT.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def modules_below(package: str) -> list[str]:
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(ROOT.joinpath(*package.split(".")).rglob("*.py"))
    ]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield what a module imports, and all that it may have meant by it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imports_of(module: str) -> set[str]:
    """Return everything that a module of ours imports, wherever it does."""
    path = path_of(module)
    return set() if path is None else set(imported(ast.parse(path.read_text(encoding="utf-8"))))


def reachable(modules: list[str]) -> set[str]:
    """Return these modules of ours, and all of ours that they bring with them."""
    found: set[str] = set()
    pending = list(modules)
    while pending:
        module = pending.pop()
        if path_of(module) is None or module in found:
            continue
        found.add(module)
        parents = module.split(".")
        pending += [".".join(parents[:n]) for n in range(1, len(parents))]
        pending += imports_of(module)
    return found
