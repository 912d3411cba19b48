"""The files of the flow are short enough to be read at once, or give a reason at their top."""

import ast
from pathlib import Path

import pytest

from tests import ROOT

MOST_LINES = 300
REASON = "Long because "
FILES = sorted(
    path for package in ("dataflow", "schemas") for path in (ROOT / package).rglob("*.py")
)


def needs_a_reason(source: str) -> bool:
    """Return whether a file is long, and its docstring has no line that begins with the reason."""
    docstring = ast.get_docstring(ast.parse(source)) or ""
    is_long = len(source.splitlines()) > MOST_LINES
    return is_long and not any(line.startswith(REASON) for line in docstring.splitlines())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_long_file_gives_its_reason(path: Path) -> None:
    assert not needs_a_reason(path.read_text(encoding="utf-8"))


def test_the_rule_is_about_long_files() -> None:
    line = "number = 1\n"
    given = f'"""A table.\n\n{REASON}it is one.\n"""\n'
    assert not needs_a_reason(line * MOST_LINES)
    assert needs_a_reason(line * (MOST_LINES + 1))
    assert needs_a_reason('"""A table."""\n' + line * MOST_LINES)
    assert not needs_a_reason(given + line * MOST_LINES)
    assert needs_a_reason(f"# {REASON}it is one.\n" + line * MOST_LINES)
    assert len(FILES) > 100, "the rule would also hold for nothing"
