"""The statements of the README are true: where one can be generated, it is."""

import os
import re
import subprocess
import sys

import yaml

from dataflow.config import reference
from schemas.parsing import parse
from schemas.requests import PaymentRequest
from tests import ROOT, published

README = (ROOT / "README.md").read_text()
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
EVENTS = ("outcome-approved", "audit-approved", "audit-duplicate")


def part(document: str, start: str, end: str) -> str:
    """Return what is between two texts, each of which the document has."""
    text = (ROOT / "docs" / document).read_text()
    assert start in text
    return text.partition(start)[2].partition(end)[0]


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_its_command_runs_the_flow() -> None:
    """With what it exports, but no valid broker: nothing else is refused."""
    exports = re.findall(r"^export (.*)$", README, re.MULTILINE)
    given = dict(pair.split("=") for line in exports for pair in line.split())
    [command] = re.findall(r"^\.venv/bin/python (-m bytewax\.run .*)$", README, re.MULTILINE)
    environ = os.environ | given | {"KAFKA_BROKERS": "localhost:none"}
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    problems = re.findall(r'"problem": "([^:]+):', done.stdout)
    assert problems == ["KAFKA_BROKERS"], done.stdout
    assert not set(given) - set(re.findall(r"[A-Z_]+", CONFIGURATION))


def test_the_configuration_table_is_that_of_the_variables() -> None:
    """Run `python -m dataflow.config.reference markdown` if this fails."""
    assert f"\n\n{reference.markdown()}\n" in CONFIGURATION


def test_its_table_has_the_essential_variables() -> None:
    """Run `python -m dataflow.config.reference essential` if this fails."""
    assert f"\n\n{reference.essential()}\n" in README
    assert len(reference.ESSENTIAL) == 8


def test_every_document_it_links_to_exists() -> None:
    for link in README.split("](")[1:]:
        target = link.partition(")")[0].partition("#")[0]
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
    for picture in re.findall(r' src(?:set)?="([^"]+)"', README):
        assert (ROOT / picture).exists(), picture


def test_its_request_is_accepted_and_its_events_are_what_comes_of_it() -> None:
    """They are the examples of docs/events.md, which are generated and valid."""
    request, *events = (
        "".join(map(str.strip, block.splitlines())).encode()
        for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    )
    assert isinstance(parse(request, len(request)), PaymentRequest)
    assert request.decode() in part("events.md", "<!-- record-approved -->", "<!-- /")
    published.assert_valid(published.PROCESSED, events[0])
    for event in events[1:]:
        published.assert_valid(published.AUDIT, event)
    for event, name in zip(events, EVENTS, strict=True):
        example = part("events.md", f"<!-- {name} -->\n```json\n", "```")
        assert published.as_json(event) == published.as_json(example.encode())


def test_its_campaign_is_that_of_the_document() -> None:
    """Update the first point if this fails after a campaign: its numbers are an older one's."""
    campaign = part("reliability.md", "<!-- campaign -->", "<!-- /campaign -->")
    (day,) = re.findall(r"^On ([\d-]+), in", campaign, re.MULTILINE)
    (kills,) = re.findall(r"\*\*([\d,]+) kills\*\*", campaign)
    (records,) = re.findall(r"^\| records \| ([\d,]+) \|", campaign, re.MULTILINE)
    assert set(re.findall(r"^\| \*\*[a-z ]+\*\* \| (\d+) \|", campaign, re.MULTILINE)) == {"0"}
    prose = " ".join(README.split())
    assert f"campaign of faults ({day}," in prose
    assert f"killed {kills} times: of {records} records none" in prose


def test_its_number_of_alerts_is_right() -> None:
    rules = yaml.safe_load((ROOT / "grafana" / "prometheus" / "rules.yaml").read_text())
    alerts = {rule.get("alert") for group in rules["groups"] for rule in group["rules"]} - {None}
    assert "more than 20 alerts, each with a runbook" in " ".join(README.split())
    assert len(alerts) > 20


def test_its_number_of_steps_is_right() -> None:
    words = {4: "four", 6: "six"}
    cut_over = part("migration.md", "\n## Cut-over\n", "\n## ")
    roll_back = part("migration.md", "\n## Roll-back\n", "\n## ")
    there, back = (
        words[len(re.findall(r"^\d\. ", text, re.MULTILINE))] for text in (cut_over, roll_back)
    )
    assert f"{there} steps to cut over, {back} to go back" in " ".join(README.lower().split())
