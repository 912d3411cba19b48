"""Requests and events that name schemas of a real registry, on a real Kafka."""

import json
import re
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from subprocess import run
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer

from schemas import avro, contract
from schemas.wire_format import HEADER_BYTES, header, schema_id
from tests import ROOT
from tests.schema_registry.samples import DECIMAL, OURS, content, decimal, schema
from tests.support.flow_process import LIMIT_S, Flow, Topics, read_all, request, send
from tests.support.kafka import Cluster, ports
from tests.support.kafka.link import Link
from tests.support.registry import Registry

UNKNOWN = 987_654
CUT = "(ConnectError|ReadError|RemoteProtocolError)"
"""The errors of a client whose connection is cut, by the step that it was at."""
SENDERS = schema(amount=DECIMAL, metadata={"type": "map", "values": "string"})
JSON_SCHEMA = json.dumps(contract.schema_of(contract.MESSAGES[0]))


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def environ(url: str, value_format: str = "json") -> dict[str, str]:
    return {"SCHEMA_REGISTRY_URL": url, "KAFKA_VALUE_FORMAT": value_format}


def command(flow: Flow, *argv: str) -> str:
    """Run `payments` with the settings of a flow; return what it prints."""
    argv = (sys.executable, "-m", "dataflow", *argv)
    done = run(argv, env=flow.environ, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def events(kafka: Cluster, topic: str, registry: Registry) -> Iterator[dict[str, Any]]:
    """Yield the events of a topic, whose records all name a schema."""
    for message in read_all(kafka, topic):
        value = message.value()
        assert value is not None
        named = schema_id(value)
        assert named is not None, value[:60]
        found = registry.client.get_schema(named)
        data = value[HEADER_BYTES:]
        if found.schema_type == "AVRO":
            assert found.schema_str is not None
            data = avro.as_json(read(data, found.schema_str))
        yield json.loads(data)


def read(data: bytes, text: str) -> Any:
    parsed = fastavro.parse_schema(json.loads(text), {})
    return fastavro.schemaless_reader(BytesIO(data), parsed, None)


def mixed(registry: Registry) -> list[bytes]:
    """Return requests of every format, and records that are none."""
    ours, theirs = registry.register(json.dumps(OURS)), registry.register(json.dumps(SENDERS))
    in_json = registry.register(JSON_SCHEMA, "JSON")
    return [
        request("pay-json"),
        header(ours) + content(OURS, paymentId="pay-avro", metadata='{"n":1.10}'),
        header(theirs)
        + content(SENDERS, paymentId="pay-decimal", amount=decimal("12.340"), metadata={"a": "b"}),
        header(in_json) + request("pay-json-schema"),
        # The same payment in another format is a duplicate.
        header(ours) + content(OURS, paymentId="pay-json", userId="user_1", amount="10.0"),
        header(ours) + content(OURS, paymentId="pay-bad", amount="-1"),
        header(ours) + b"\xff",
        header(UNKNOWN) + b"anything",
        b"garbage",
    ]


@pytest.mark.parametrize("value_format", ["avro", "json-registry"])
def test_requests_of_every_format_are_decided_and_their_events_name_a_schema(
    kafka: Cluster, topics: Topics, registry: Registry, tmp_path: Path, value_format: str
) -> None:
    values = mixed(registry)
    send(kafka, topics, iter(values), partitions=3)
    settings = environ(registry.url, value_format) | {"SIMULATED_DECLINE_RATE": "0"}
    with Flow(kafka, topics, tmp_path, environ=settings) as refused:
        assert "payments schemas register" in refused.refusal()
        command(refused, "schemas", "register")
    with Flow(kafka, topics, tmp_path, environ=settings) as flow:
        flow.wait_until_decided(len(values))
        assert flow.terminate() == 0
        assert "\nEverything holds." in command(flow, "verify")
    processed, failed, audit = ([*events(kafka, each, registry)] for each in topics.outputs)
    assert {event["paymentId"]: event["amount"] for event in processed} == {
        "pay-json": 10.00,
        "pay-avro": 99.990,
        "pay-decimal": 12.340,
        "pay-json-schema": 10.00,
    }
    assert sorted(event["error"]["code"] for event in failed) == [
        "invalid",
        "malformed",
        "malformed",
        "unknown_schema",
    ]
    assert len(audit) == len(values)
    kinds = [event["eventType"] for event in audit]
    assert (kinds.count("payment.processed"), kinds.count("payment.duplicate")) == (4, 1)


class TestOutages:
    """The registry is behind a link that a test cuts."""

    @pytest.fixture
    def link(self, registry: Registry) -> Iterator[Link]:
        [port] = ports.free(1, for_good=True)
        link = Link(port, registry.port)
        yield link
        link.close()

    def test_a_partition_with_a_new_schema_waits_and_the_others_go_on(
        self, kafka: Cluster, topics: Topics, registry: Registry, tmp_path: Path, link: Link
    ) -> None:
        known = registry.register(json.dumps(OURS))
        new = registry.register(json.dumps(schema(later=["null", "string"])))
        send(kafka, topics, iter([in_avro(known, "pay-1")]), partitions=1)
        settings = environ(Registry.url_at(link.port))
        with Flow(kafka, topics, tmp_path, environ=settings) as flow:
            flow.wait_until_decided(1)
            link.cut()
            # Behind the record that waits, one that need not: it keeps its place.
            late = schema(later=["null", "string"])
            waiting = [header(new) + content(late, paymentId="pay-2", later=None), request("pay-3")]
            send(kafka, topics, iter(waiting), partitions=1)
            send_to(kafka, topics, 1, [in_avro(known, "pay-4"), request("pay-5")])
            flow.wait_until_decided(3)
            reason = f"records wait for schema id {new}: {CUT}"
            flow.wait(lambda: re.search(reason, ready(flow)), LIMIT_S, "not ready with a reason")
            assert "payments_waiting_for_schemas 1.0" in flow.metrics()
            flow.wait(lambda: state(flow) == ("waiting_for_schemas", True), LIMIT_S, "shown so")
            assert flow.decided() == 3
            link.mend()
            flow.wait_until_ready()
            flow.wait_until_decided(5)
            assert flow.terminate() == 0
            warned = [entry["event"] for entry in flow.entries if entry["level"] == "warning"]
            assert "waiting for the schema registry" in warned
        assert read_all(kafka, topics.outputs[1]) == []
        assert len(read_all(kafka, topics.outputs[2])) == 5

    def test_a_stop_during_the_wait_loses_nothing(
        self, kafka: Cluster, topics: Topics, registry: Registry, tmp_path: Path, link: Link
    ) -> None:
        # Not the first one of the registry: a start looks that up, to see whether it is let in.
        registry.register(json.dumps(OURS))
        stops = schema(stops=["null", "string"])
        new = registry.register(json.dumps(stops))
        settings = environ(Registry.url_at(link.port))
        with Flow(kafka, topics, tmp_path, environ=settings) as flow:
            flow.wait_until_ready()
            link.cut()
            waiting = header(new) + content(stops, paymentId="pay-2", stops=None)
            send(kafka, topics, iter([request("pay-1"), waiting]), partitions=1)
            flow.wait_until_decided(1)
            flow.wait(lambda: flow.get("/ready")[0] == 503, LIMIT_S, "not ready")
            assert flow.terminate() == 0
        link.mend()
        with Flow(kafka, topics, tmp_path, environ=settings) as flow:
            flow.wait(lambda: len(read_all(kafka, topics.outputs[0])) == 2, LIMIT_S, "done")
            assert flow.terminate() == 0
        assert len(read_all(kafka, topics.outputs[2])) == 2

    def test_a_start_waits_for_the_registry(
        self, kafka: Cluster, topics: Topics, registry: Registry, tmp_path: Path, link: Link
    ) -> None:
        known = registry.register(json.dumps(OURS))
        send(kafka, topics, iter([in_avro(known, "pay-1")]), partitions=1)
        link.cut()
        with Flow(kafka, topics, tmp_path, environ=environ(Registry.url_at(link.port))) as flow:
            reason = f"the schema registry is away: {CUT}"
            flow.wait(lambda: re.search(reason, ready(flow)), LIMIT_S, "not ready with a reason")
            assert flow.get("/live")[0] == 200
            flow.wait(lambda: state(flow) == ("waiting_for_schemas", True), LIMIT_S, "shown so")
            link.mend()
            flow.wait_until_decided(1)
            assert flow.terminate() == 0

    def test_a_signal_ends_the_wait_of_a_start(
        self, kafka: Cluster, topics: Topics, tmp_path: Path, link: Link
    ) -> None:
        link.cut()
        with Flow(kafka, topics, tmp_path, environ=environ(Registry.url_at(link.port))) as flow:
            flow.wait(lambda: "is away" in ready(flow), LIMIT_S, "not ready with a reason")
            assert flow.terminate() == 0


def test_a_record_that_names_a_schema_needs_a_registry(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, iter([header(7) + content(OURS)]), partitions=1)
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_decided(1)
        assert flow.terminate() == 0
    [message] = read_all(kafka, topics.outputs[1])
    error = json.loads(message.value() or b"")["error"]
    assert error["code"] == "malformed"
    expected = "it looks like Confluent's wire format, schema id 7; set SCHEMA_REGISTRY_URL"
    assert expected in error["message"]


def state(flow: Flow) -> tuple[object, object]:
    """Return the state of a flow, and whether it is alive, as `/health` has them."""
    health = flow.health()
    return health.get("status"), health.get("live")


def ready(flow: Flow) -> str:
    """Return why a flow is not ready."""
    return flow.get("/ready")[1]


def in_avro(schema_number: int, payment_id: str) -> bytes:
    return header(schema_number) + content(OURS, paymentId=payment_id)


def send_to(kafka: Cluster, topics: Topics, partition: int, values: list[bytes]) -> None:
    """Send records to one partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value in values:
        producer.produce(topics.requested, value, partition=partition)
    assert producer.flush(30) == 0
