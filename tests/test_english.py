"""Words that readers at night should not meet: in documents, docstrings, and printed texts."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
WORDS = re.compile(r"\b(whoever|somebody|anew|to be had)\b", re.IGNORECASE)
CAMPAIGN = re.compile(r"<!-- campaign -->.*?<!-- /campaign -->", re.DOTALL)
"""Generated in the words of its time."""
QUESTION = re.compile(r"\s*(what|whether|how|who|where|when)\b", re.IGNORECASE)
OF_A_PERSON = re.compile(
    r"_(tells?|told|hears?|heard|says?|said|asks?|asked|knows?|whoever|whatever|somebody|anew)(?![^_])"
)
"""Things people do, and words that a reader has to look up."""
NO_SUBJECT = re.compile(
    r"test_(what|who|how|whether|where|when|which|why|if|without|with|after|before|on|in|at|from|of|by"
    r"|until|once)_"
)
"""The beginning of a test name that puts something before its subject."""
SOURCES = [
    path
    for folder in ("dataflow", "docs", "grafana", "k8s", "schemas", "tests")
    for path in ROOT.glob(f"{folder}/**/*.py")
]


def printed(path: Path) -> Iterator[str]:
    """Yield the strings of a module that are no docstrings."""
    tree = ast.parse(path.read_text())
    comments = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in comments:
            yield str(node.value)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of each docstring, of attributes and constants as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))):
                yield node.lineno, text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_document_has_none_of_them(document: Path) -> None:
    assert not WORDS.findall(CAMPAIGN.sub("", document.read_text()))


def test_printed_texts_have_none_of_them() -> None:
    texts = [text for path in ROOT.glob("dataflow/**/*.py") for text in printed(path)]
    assert "refused to start" in texts
    assert not [text for text in texts if WORDS.search(text)]


def test_the_alerts_have_none_of_them() -> None:
    assert not WORDS.findall((ROOT / "grafana" / "prometheus" / "rules.yaml").read_text())


def test_a_docstring_begins_with_a_verb_or_a_noun() -> None:
    found = {
        f"{path.relative_to(ROOT)}:{line}": text
        for path in SOURCES
        for line, text in docstrings(path)
    }
    assert len(found) > 1000
    assert not {place: text for place, text in found.items() if QUESTION.match(text)}


def test_a_test_is_named_after_its_subject() -> None:
    names = {
        node.name
        for path in ROOT.glob("tests/**/test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }
    assert len(names) > 1000
    assert not [each for each in sorted(names) if OF_A_PERSON.search(each)]
    assert not [each for each in sorted(names) if NO_SUBJECT.match(each)]
