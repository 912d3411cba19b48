"""Our schemas in a real registry: registered by the command, found by a start, refused by name."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dataflow.config.settings import Settings
from dataflow.errors import StartRefusedError
from dataflow.runtime import Runtime
from dataflow.schema_registry import start, subjects
from dataflow.schema_registry.client import (
    TOOL_TIMEOUT_S,
    NotInRegistryError,
    RegistryAwayError,
    RegistryRefusedError,
)
from dataflow.schema_registry.client import Registry as Client
from dataflow.schema_registry.registration import main
from schemas import avro
from tests.schema_registry.samples import OURS
from tests.support.flow_process import Topics
from tests.support.kafka import ports
from tests.support.registry import Registry
from tests.support.required import REQUIRED

FORMATS = pytest.mark.parametrize("value_format", ["avro", "json-registry"])


@pytest.fixture
def topics() -> Topics:
    """Name topics that no other test has; they are not in any Kafka."""
    return Topics(f"t{uuid.uuid4().hex[:8]}")


@pytest.fixture
def environ(registry: Registry, topics: Topics) -> dict[str, str]:
    return REQUIRED | topics.environ() | {"SCHEMA_REGISTRY_URL": registry.url}


@pytest.fixture
def client(environ: dict[str, str]) -> Iterator[Client]:
    with closing(made(environ)) as client:
        yield client


def made(environ: dict[str, str]) -> Client:
    return Client(Settings.from_env(environ).schema_registry, TOOL_TIMEOUT_S)


def connect(environ: dict[str, str]) -> start.Formats:
    """Return the formats of a start; their connections are closed."""
    runtime = Runtime(Settings.from_env(environ))
    context = runtime.context
    with closing(runtime.charging):
        formats = start.connect(context.settings, context.status, context.lifecycle, 1_000)
    formats.close()
    return formats


class TestCommand:
    @FORMATS
    def test_schemas_are_registered_once_and_a_start_finds_them(
        self,
        environ: dict[str, str],
        topics: Topics,
        value_format: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        environ["KAFKA_VALUE_FORMAT"] = value_format
        assert main(["check"], environ) == 1
        assert "payments schemas register" in capsys.readouterr().out
        assert main(["register", "--dry-run"], environ) == 0
        assert capsys.readouterr().out.count("would be registered") == 3
        assert main(["check"], environ) == 1, "the dry run has registered them"
        capsys.readouterr()
        assert main(["register"], environ) == 0
        first = capsys.readouterr().out
        assert first.count("registered now, schema id") == 3
        for argv in (["register"], ["check"], ["register", "--dry-run"]):
            assert main(argv, environ) == 0
            assert capsys.readouterr().out == first.replace("registered now", "registered")
        assert connect(environ).encoders.keys() == {*topics.outputs}

    @FORMATS
    def test_a_new_subject_gets_its_level_and_another_level_is_kept(
        self,
        environ: dict[str, str],
        client: Client,
        topics: Topics,
        registry: Registry,
        value_format: str,
    ) -> None:
        processed, failed, _ = (f"{topic}-value" for topic in topics.outputs)
        registry.client.set_compatibility(processed, "BACKWARD")
        assert main(["register", "--format", value_format], environ) == 0
        expected = {"avro": "FULL_TRANSITIVE", "json-registry": "FORWARD_TRANSITIVE"}
        assert client.level(failed) == expected[value_format]
        assert client.level(processed) == "BACKWARD"

    def test_the_schema_of_requests_is_registered_on_demand(
        self, environ: dict[str, str], client: Client, topics: Topics
    ) -> None:
        subject = f"{topics.requested}-value"
        assert main(["register"], environ) == 0
        assert client.versions(subject) == []
        assert main(["register", "--with-requests"], environ) == 0
        assert client.versions(subject) == [1]

    def test_a_schema_that_is_not_compatible_is_refused_by_the_name_of_its_subject(
        self,
        environ: dict[str, str],
        client: Client,
        topics: Topics,
        registry: Registry,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        subject = f"{topics.outputs[0]}-value"
        registry.client.set_compatibility(subject, "FULL_TRANSITIVE")
        registry.register(foreign(), subject=subject)
        for argv in (["check"], ["register", "--dry-run"], ["register"]):
            assert main(argv, environ) == 1
            assert (
                f"subject {subject}: the schema of this version is not" in capsys.readouterr().out
            )
        assert client.versions(subject) == [1]
        with pytest.raises(
            StartRefusedError, match=f"{subject}: the schema of this version is not"
        ):
            connect(environ | {"KAFKA_VALUE_FORMAT": "avro"})

    def test_a_registry_that_is_away_is_an_exit_code_of_its_own(
        self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        [nobody] = ports.free(1)
        environ["SCHEMA_REGISTRY_URL"] = f"http://127.0.0.1:{nobody}"
        assert main(["register"], environ) == 2
        assert "the schema registry is away: ConnectError" in capsys.readouterr().err

    def test_a_registry_has_to_be_named(
        self, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["check"], environ | {"SCHEMA_REGISTRY_URL": ""}) == 2
        assert "SCHEMA_REGISTRY_URL: required" in capsys.readouterr().err


class TestStart:
    def test_a_schema_that_is_not_registered_refuses_the_start(
        self, environ: dict[str, str], topics: Topics
    ) -> None:
        with pytest.raises(StartRefusedError) as caught:
            connect(environ | {"KAFKA_VALUE_FORMAT": "avro"})
        lines = str(caught.value).splitlines()
        assert lines == [
            f"KAFKA_VALUE_FORMAT=avro: subject {topic}-value: it does not have the schema of this"
            " version; register it with: payments schemas register"
            for topic in topics.outputs
        ]

    def test_events_in_json_need_no_schema(self, environ: dict[str, str]) -> None:
        formats = connect(environ)
        assert formats.encoders == {}
        assert formats.unwrap([b"{}"]).values == [b"{}"]


class TestClient:
    def test_a_schema_is_found_with_all_that_it_refers_to(
        self, client: Client, registry: Registry
    ) -> None:
        schema_id = registry.register(json.dumps(OURS))
        found = client.schema(schema_id)
        assert (found.kind, json.loads(found.text), found.references) == ("AVRO", OURS, ())

    def test_an_id_that_does_not_exist_is_not_in_the_registry(self, client: Client) -> None:
        with pytest.raises(NotInRegistryError):
            client.schema(987_654)

    def test_an_address_that_is_no_registry_is_an_outage_and_no_unknown_schema(
        self, environ: dict[str, str], registry: Registry
    ) -> None:
        """Such as a proxy whose registry is just starting: no payment fails by that."""
        root = registry.url.removesuffix("/apis/ccompat/v7")
        for path in ("/nothing", ""):
            there = made(environ | {"SCHEMA_REGISTRY_URL": f"{root}{path}"})
            with closing(there) as elsewhere, pytest.raises(RegistryAwayError):
                elsewhere.schema(987_654)

    def test_a_schema_that_is_none_is_refused(self, client: Client) -> None:
        with pytest.raises(RegistryRefusedError):
            client.register(uuid.uuid4().hex, "AVRO", '{"type":"nonsense"}')


def foreign() -> str:
    """Return another program's schema."""
    fields = [{"name": "amount", "type": "double"}]
    return json.dumps({"type": "record", "name": "Other", "fields": fields})


# ---- evolution, as a registry judges it ----


def with_field(schema: dict[str, Any], name: str, **field: Any) -> str:
    return json.dumps({**schema, "fields": [*schema["fields"], {"name": name, **field}]})


def without_field(schema: dict[str, Any], name: str) -> str:
    fields = [each for each in schema["fields"] if each["name"] != name]
    return json.dumps({**schema, "fields": fields})


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (lambda old: with_field(old, "later", type=["null", "string"], default=None), True),
        (lambda old: with_field(old, "later", type="string"), False),
        (lambda old: without_field(old, "eventId"), False),
        (lambda old: json.dumps(old).replace('"amount"', '"price"'), False),
    ],
    ids=["optional field", "required field", "removed field", "renamed field"],
)
def test_a_registry_judges_changes_by_our_level(
    environ: dict[str, str],
    client: Client,
    change: Callable[[dict[str, Any]], str],
    fits: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    assert main(["register", "--format", "avro"], environ) == 0
    schema, *_ = subjects.of_outputs(Settings.from_env(environ).kafka, "avro")
    new = change(json.loads(schema.text))
    assert client.is_compatible(schema.subject, "AVRO", new) is fits


def test_every_schema_of_ours_is_taken_in_both_kinds(
    environ: dict[str, str], topics: Topics, registry: Registry
) -> None:
    for value_format in ("avro", "json-registry"):
        kafka = Settings.from_env(
            environ | Topics(f"{topics.prefix}{value_format}").environ()
        ).kafka
        schemas = [*subjects.of_outputs(kafka, value_format)]
        schemas.append(subjects.of_requests(kafka, value_format))
        assert len(schemas) == len(avro.MESSAGES)
        for schema in schemas:
            assert registry.register(schema.text, schema.kind, schema.subject) > 0


def test_a_certificate_that_is_no_file_of_one_is_a_wrong_setting(
    environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(StartRefusedError, match="SCHEMA_REGISTRY_CA"):
        connect(environ | {"SCHEMA_REGISTRY_CA": str(tmp_path / "ca.pem")})
