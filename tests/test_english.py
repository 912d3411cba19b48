"""Words that readers at night should not meet: in documents, and in what the product prints."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
WORDS = re.compile(r"\b(whoever|somebody|anew|to be had)\b", re.IGNORECASE)
CAMPAIGN = re.compile(r"<!-- campaign -->.*?<!-- /campaign -->", re.DOTALL)
"""Generated in the words of its time."""


def printed(path: Path) -> Iterator[str]:
    """Yield the strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in comments:
            yield str(node.value)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_has_none_of_them(document: Path) -> None:
    assert not WORDS.findall(CAMPAIGN.sub("", document.read_text()))


def test_what_is_printed_has_none_of_them() -> None:
    texts = [text for path in ROOT.glob("dataflow/**/*.py") for text in printed(path)]
    assert "refused to start" in texts
    assert not [text for text in texts if WORDS.search(text)]


def test_the_alerts_have_none_of_them() -> None:
    assert not WORDS.findall((ROOT / "grafana" / "prometheus" / "rules.yaml").read_text())
