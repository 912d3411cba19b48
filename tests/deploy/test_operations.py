"""`docs/operations.md`, and the pages on refused starts, speak of what there is."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dataflow.config.variables import VARIABLES
from dataflow.core.lanes import lane_of_key
from schemas.requests import key_of
from tests import ROOT
from tests.deploy.manifests import SERVICE, applied, one, read, strings

TEXT = (ROOT / "docs" / "operations.md").read_text()
REFUSED = (ROOT / "docs" / "start-refusals.md").read_text()
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


def nodes() -> Iterator[ast.AST]:
    """Yield the syntax of the product's code, without the demo, which starts by itself."""
    for path in sorted({*ROOT.glob("dataflow/**/*.py")} - {*ROOT.glob("dataflow/demo/*.py")}):
        yield from ast.walk(ast.parse(path.read_text()))


def messages() -> Iterator[str]:
    """Yield the texts in the product's code, with `...` for what is filled in."""
    for node in nodes():
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def quoted_refusals() -> list[str]:
    """Return what the documents quote of the log of a refused start, or of a fault."""
    recovery = (ROOT / "docs" / "recovery.md").read_text()
    index = recovery.partition("\n| message | section |")[2]
    places = [
        *re.findall(r"^### (`.*`)$", REFUSED, re.MULTILINE),
        *re.findall(r"^Also (`.*?)\n\n", REFUSED, re.MULTILINE | re.DOTALL),
        *re.findall(r"^\| (`.*?`) \|", REFUSED, re.MULTILINE),
        *re.findall(r"^\| (`.*?`) \|", index, re.MULTILINE),
        *re.findall(r"\*\*(`.*?`)\.?\*\*", recovery, re.DOTALL),
    ]
    quotes = [
        each for place in places for each in re.findall(r"`([^`]+)`", " ".join(place.split()))
    ]
    return sorted(set(quotes))


MESSAGES = list(messages())


@pytest.mark.parametrize("quote", quoted_refusals())
def test_every_refusal_in_it_is_one_that_the_code_has(quote: str) -> None:
    """Word by word, but for what is filled in: `...`, X, Y, and the names of defaults."""
    filled_in = r"\.\.\.|\b[XY]\b|payments\.lane-log|payments\.payment-pending|the snapshot"
    pieces = [piece for piece in re.split(filled_in, quote) if len(piece.strip(" :")) > 1]
    assert pieces
    for piece in pieces:
        assert any(piece in message for message in MESSAGES), piece


SAME_WORDS = 4


def refusals() -> Iterator[list[str]]:
    """Yield the words in a row of each refusal with fixed text, where it is raised."""
    for node in nodes():
        match node:
            case ast.Call(func=ast.Name("StartRefusedError"), args=[message]):
                texts = [each.value for each in ast.walk(message) if isinstance(each, ast.Constant)]
                if rows := [row for text in texts for row in rows_of(str(text).split())]:
                    yield rows


def rows_of(words: list[str]) -> Iterator[str]:
    """Yield each so many words in a row."""
    for at in range(len(words) - SAME_WORDS + 1):
        yield " ".join(words[at : at + SAME_WORDS])


REFUSALS = list(refusals())


@pytest.mark.parametrize("rows", REFUSALS, ids=lambda rows: rows[0])
def test_every_refusal_that_the_code_has_is_in_the_page(rows: list[str]) -> None:
    """By some words that both have."""
    page = " ".join(REFUSED.split())
    assert any(row in page for row in rows)


def test_the_lane_of_a_payment_is_printed() -> None:
    [code] = re.findall(r'^ +python -c "(.*)"$', REFUSED, re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == lane_of_key(key_of("pay_1"), 4)


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
