"""The names in CONTRIBUTING.md, SECURITY.md and the glossary exist; the hooks are `make lint`."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

DOCUMENTS = [ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", ROOT / "docs" / "glossary.md"]
PATHS = r"`((?:\.ci|dataflow|docs|k8s|schemas|tests)/[\w./-]*|[\w.-]+\.(?:md|example))`"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_every_path_in_it_exists(document: Path) -> None:
    paths = re.findall(PATHS, document.read_text())
    assert paths
    for path in paths:
        assert (ROOT / path).exists(), path


def test_the_names_in_it_are_in_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name, path in {
        "_BUILDERS": "dataflow/gateways/registry.py",
        "GatewayContract": "tests/gateways/contract.py",
        "Variable": "dataflow/config/variables.py",
        "NOT_SET": "tests/deploy/test_consistency.py",
        "Point": "tests/support/hooks/crash_points.py",
        "KILLERS": "tests/chaos/mutants.py",
    }.items():
        assert f"`{name}`" in text
        assert path in text
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text())


def test_its_targets_and_its_test_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= set(targets)
    for path, name in re.findall(r'"(tests/[\w/.]+)::(\w+)', text):
        assert f"def {name}(" in (ROOT / path).read_text()


def test_the_glossary_is_sorted() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    terms = [
        row.partition(" | ")[0] for row in re.findall(r"^\| ([a-z].*) \|$", text, re.MULTILINE)
    ]
    assert terms[1:] == sorted(terms[1:], key=lambda term: term.replace(",", ""))


def test_the_hooks_are_the_checks_of_make_lint() -> None:
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    checks = re.findall(r"@\$\(RUN\) (.*)", recipe[1])
    config: dict[str, Any] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    [repo] = config["repos"]
    assert repo["repo"] == "local"
    assert [hook["entry"] for hook in repo["hooks"]] == [
        f".venv/bin/python {check}" for check in checks
    ]
    assert not any(hook["pass_filenames"] for hook in repo["hooks"])
