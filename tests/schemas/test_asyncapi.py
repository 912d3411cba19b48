"""schemas/asyncapi.yaml: valid for the official parser, and about our topics and schemas."""

from typing import Any

import pytest
import yaml

from dataflow import __version__
from dataflow.config.variables import KAFKA
from tests import ROOT, published
from tests.published import node

DOCUMENT = ROOT / "schemas" / "asyncapi.yaml"
INFORMATION = 2
"""Severity of a diagnostic that is neither an error nor a warning."""
TOPICS = {
    variable.default: variable.name
    for variable in KAFKA
    if variable.name.startswith("KAFKA_TOPIC") and variable.name != "KAFKA_TOPIC_LANE_LOG"
}
"""All that have messages: the lane log is the flow's own state."""
FAULTS = [
    ("action: send", "action: publish"),
    ("'#/channels/audit'", "'#/channels/none'"),
    ("./json/audit-event", "./json/none"),
]
"""A part of the document, and a wrong one in its place."""


def faults(found: dict[str, Any]) -> list[str]:
    """Return the parser's errors and warnings."""
    return [each["message"] for each in found["diagnostics"] if each["severity"] < INFORMATION]


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the parser finds in the document, and in each broken one: in one process."""
    directory = tmp_path_factory.mktemp("asyncapi")
    (directory / "json").symlink_to(published.FILES)
    paths = {"right": DOCUMENT}
    for number, (right, wrong) in enumerate(FAULTS):
        paths[wrong] = directory / f"{number}.yaml"
        paths[wrong].write_text(DOCUMENT.read_text().replace(right, wrong))
    found = node.run("check.js", *map(str, paths.values()))
    return dict(zip(paths, found, strict=True))


def test_the_official_parser_finds_all_messages_and_no_fault(parsed: dict[str, Any]) -> None:
    found = parsed["right"]
    assert faults(found) == []
    assert found["messages"] == {
        "payments.payment-requested": ["payment-requested"],
        "payments.payment-processed": ["payment-processed"],
        "payments.payment-failed": ["payment-failed"],
        "audit.payment-events": ["audit-event"],
        "payments.payment-pending": ["pending-payment"],
    }


@pytest.mark.parametrize("wrong", [wrong for _, wrong in FAULTS])
def test_the_official_parser_finds_a_fault(wrong: str, parsed: dict[str, Any]) -> None:
    assert faults(parsed[wrong]) != []


def test_its_addresses_are_the_default_topics() -> None:
    channels = yaml.safe_load(DOCUMENT.read_text())["channels"].values()
    assert {channel["address"] for channel in channels} == TOPICS.keys()


def test_it_refers_to_every_schema_file() -> None:
    messages = yaml.safe_load(DOCUMENT.read_text())["components"]["messages"].values()
    files = {each["payload"]["schema"]["$ref"].removeprefix("./json/") for each in messages}
    assert files == {path.name for path in published.FILES.iterdir()}


def test_its_version_is_that_of_the_product() -> None:
    assert yaml.safe_load(DOCUMENT.read_text())["info"]["version"] == __version__
