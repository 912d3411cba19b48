"""`docs/operations.md` speaks of what there is."""

import ast
import re
from collections.abc import Iterator

import pytest

from dataflow.config.variables import VARIABLES
from tests import ROOT
from tests.deploy.manifests import SERVICE, applied, one, read, strings

TEXT = (ROOT / "docs" / "operations.md").read_text()
PAGES = {path: path.read_text() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]}


def anchors(text: str) -> set[str]:
    """Return the names that the headings of a page get."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: object) -> None:
    """To a file that exists, and to a heading that it has."""
    [(path, text)] = [(path, text) for path, text in PAGES.items() if path == page]
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            file = (path.parent / name).resolve() if name else path
            assert file.exists(), target
            assert not anchor or anchor in anchors(file.read_text()), target


def messages() -> Iterator[str]:
    """Return the texts in the product's code, with `...` for what is filled in."""
    for path in ROOT.glob("dataflow/**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "..."
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def quoted_refusals() -> list[str]:
    """Return what this page and docs/recovery.md quote of the log of a refused start."""
    table = TEXT.partition("\n| the line has |")[2].partition("\n\n")[0]
    recovery = (ROOT / "docs" / "recovery.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    return rows + [
        quote
        for heading in re.findall(r"\*\*(`.*?`)\.?\*\*", recovery, re.DOTALL)
        for quote in re.findall(r"`([^`]+)`", " ".join(heading.split()))
    ]


MESSAGES = list(messages())


@pytest.mark.parametrize("quote", quoted_refusals())
def test_every_refusal_in_it_is_one_that_the_code_has(quote: str) -> None:
    """Word by word, but for what is filled in: `...`, X, Y, and the names of defaults."""
    filled_in = r"\.\.\.|\b[XY]\b|payments\.lane-log|payments\.payment-pending|the snapshot"
    pieces = [piece for piece in re.split(filled_in, quote) if len(piece.strip(" :")) > 1]
    assert pieces
    for piece in pieces:
        assert any(piece in message for message in MESSAGES), piece


def test_every_path_in_it_exists() -> None:
    made = {"k8s/waxctl/rendered.yaml"}
    for path in set(re.findall(r"\b(?:k8s|tests|docs)/[\w./-]+[\w/]", TEXT)) - made:
        assert (ROOT / path).exists(), path
    for name in re.findall(r"`(\d\d-[a-z-]+)`", TEXT):
        assert (ROOT / "k8s" / f"{name}.yaml").exists(), name


def test_every_variable_in_it_is_one_of_ours() -> None:
    ours = {variable.name for variable in VARIABLES} | {"BYTEWAX_RECOVERY_DIRECTORY"}
    assert set(re.findall(r"`((?:KAFKA|GATEWAY|BYTEWAX)_\w+)`", TEXT)) <= ours


def test_every_kubernetes_object_in_its_commands_exists() -> None:
    names = {(o["kind"].lower(), o["metadata"]["name"]) for o in applied()}
    for kind, name in re.findall(r"\b(statefulset|service)/([\w-]+)", TEXT):
        assert (kind, name) in names
    pods = set(re.findall(r" pod -n payments ([a-z]\S+)", TEXT))
    assert pods == {f"{SERVICE}-0"}
    selected = set(re.findall(r"app\.kubernetes\.io/name=([\w-]+)", TEXT))
    assert selected == {SERVICE}


def test_it_makes_the_secrets_that_are_mounted() -> None:
    made = set(re.findall(r"create secret generic -n payments ([\w-]+)", TEXT))
    made_from = set(re.findall(r"get secret -n kafka ([\w-]+)", TEXT))
    examples = read(ROOT / "k8s" / "examples" / "secret.yaml")
    assert made == {o["metadata"]["name"] for o in examples}
    external = set(strings(read(ROOT / "k8s" / "examples" / "external-secret.yaml")))
    assert made_from <= external
    volumes = one(applied(), "StatefulSet")["spec"]["template"]["spec"]["volumes"]
    assert made == {v["secret"]["secretName"] for v in volumes if "secret" in v}
