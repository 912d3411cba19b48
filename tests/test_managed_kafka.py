"""`docs/managed-kafka.md`: each block of settings is read as the service would read it."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dataflow.config.settings import Settings
from dataflow.config.spelling import suspects
from dataflow.kafka import client_config, msk_token
from dataflow.kafka.client_check import check_properties
from tests import ROOT
from tests.support.kafka import distribution

PAGE = (ROOT / "docs" / "managed-kafka.md").read_text()
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = [
    pytest.param(block, id=f"{title}-{number}")
    for title, text in SECTIONS.items()
    for number, block in enumerate(
        re.findall(r"^```sh\n(KAFKA_.*?)^```", text, re.MULTILINE | re.DOTALL)
    )
]
FILES = [
    pytest.param(block, id=title)
    for title, text in SECTIONS.items()
    for block in re.findall(r"^```properties\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
FILES.append(
    pytest.param(re.findall(r"`(sasl\.oauthbearer\.extensions=\S+)`", PAGE)[0], id="extensions")
)


@pytest.fixture(autouse=True)
def signer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have any library that signs; it is not asked for a token."""
    monkeypatch.setitem(sys.modules, msk_token._LIBRARY, ModuleType("provider"))
    msk_token.signer.cache_clear()


def environment(block: str, directory: Path) -> dict[str, str]:
    """Return the variables, with files in the place of those of a pod."""
    (directory / "file").write_text("x")
    (directory / "client.properties").touch()
    lines = [line.partition("=") for line in block.splitlines()]
    return {
        name: str(directory / ("client.properties" if "PROPERTIES" in name else "file"))
        if value.startswith("/")
        else value
        for name, _, value in lines
    }


def test_each_service_has_settings() -> None:
    services = {str(block.id).rpartition("-")[0] for block in BLOCKS}
    assert services == {
        "Apache Kafka and Strimzi",
        "Confluent Cloud",
        "Amazon MSK",
        "Azure Event Hubs",
        "Redpanda",
        "Aiven for Apache Kafka",
    }


@pytest.mark.parametrize("block", BLOCKS)
def test_the_settings_are_right(block: str, tmp_path: Path) -> None:
    environ = environment(block, tmp_path) | {"GATEWAY": "simulated"}
    settings = Settings.from_env(environ)
    assert list(suspects(environ)) == []
    assert settings.kafka.uses_sasl
    config = client_config.producer(settings.kafka, "any")
    assert config["sasl.mechanism"]
    assert config["ssl.endpoint.identification.algorithm"] == "https"


@pytest.mark.parametrize("text", FILES)
def test_the_properties_are_accepted(text: str, tmp_path: Path) -> None:
    (tmp_path / "client.properties").write_text(text)
    environ = {
        "KAFKA_BROKERS": "localhost:9092",
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "KAFKA_CLIENT_PROPERTIES_FILE": str(tmp_path / "client.properties"),
        "GATEWAY": "simulated",
    }
    kafka = Settings.from_env(environ).kafka
    assert kafka.client_properties is not None
    assert kafka.client_properties.values
    check_properties(kafka)


def test_no_request_is_too_large_for_event_hubs(tmp_path: Path) -> None:
    """A request has the records of one partition, up to a record more than a batch may have."""
    [limit] = re.findall(r"more than ([\d,]+) bytes", PAGE)
    [block] = [each.values[0] for each in BLOCKS if str(each.id).startswith("Azure")]
    environ = environment(str(block), tmp_path) | {"GATEWAY": "simulated"}
    config = client_config.producer(Settings.from_env(environ).kafka, "any")
    longest_name_bytes = 249
    around_the_records_bytes = 4 * longest_name_bytes + 1024
    largest = max(config["message.max.bytes"], config["batch.size"])
    assert largest + around_the_records_bytes < int(limit.replace(",", ""))


def test_the_versions_are_those_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    oldest, newest = distribution.OLDEST, distribution.newest()
    assert f"Apache Kafka {oldest.rpartition('.')[0]} to {newest.rpartition('.')[0]}," in PAGE
    assert f"| Apache Kafka {oldest} |" in PAGE
    assert f"(#apache-kafka-and-strimzi) {newest} |" in PAGE
    monkeypatch.delenv(distribution.VERSION, raising=False)
    assert distribution.version() == newest
    monkeypatch.setenv(distribution.VERSION, "oldest")
    assert distribution.version() == oldest
