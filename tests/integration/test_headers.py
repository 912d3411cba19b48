"""The headers of a request, on all that becomes of it; and those that anybody may have written."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer

from dataflow.core.lane_log import headers as lane_headers
from schemas.headers import MAX_VALUE_BYTES, Headers
from tests.integration.test_parking import PARKS_LATE, book_of, pending, run_until
from tests.integration.test_tools import result
from tests.support import raw_headers
from tests.support.flow_process import LIMIT_S, Flow, Topics, read_all, request
from tests.support.invariants import check
from tests.support.kafka import Cluster

POISON = (b"traceparent", b"caf\xe9")
OFTEN = 300


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def send(kafka: Cluster, topics: Topics, *records: tuple[bytes | None, Headers | None]) -> None:
    """Send the records to one partition, in their order."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for value, headers in records:
        producer.produce(topics.requested, value, partition=0, headers=headers)
    assert producer.flush(30) == 0


def by_offset(kafka: Cluster, topic: str) -> dict[int, Headers]:
    """Return the headers of the events on a topic, by the offset of the request."""
    return {_offset(each): _headers(each) for each in read_all(kafka, topic)}


def _offset(message: Message) -> int:
    return int(json.loads(message.value() or b"")["source"]["offset"])


def _headers(message: Message) -> Headers:
    found = message.headers() or []
    assert isinstance(found, list)
    return found


def traced(number: int) -> Headers:
    return [("traceparent", b"00-%032x-%016x-01" % (number, number))]


def test_every_event_has_the_headers_of_its_request(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Whatever it is, and with the attributes of CloudEvents; those beyond the limits are counted.

    A payment without an answer keeps its headers through a restart that has lost all of its files.
    """
    down = tmp_path / "book.down"
    down.touch()
    repeated: Headers = [("baggage", b"a=1"), ("x", b"not wanted"), ("baggage", None)]
    records: Sequence[tuple[bytes | None, Headers | None]] = [
        (request("pay-0"), traced(0)),
        (request("pay-0"), traced(1)),
        (request("pay-2"), repeated),
        (b"no JSON", traced(3)),
        (None, traced(4)),
        (request("pay-5"), None),
        (request("late-6:hangs"), traced(6)),
        (request("pay-7"), [("correlation-id", b"\xff\x00"), *traced(7)]),
        (request("pay-8"), [("baggage", bytes(MAX_VALUE_BYTES + 1)), *traced(8)]),
    ]
    expected: dict[int, Headers] = {n: traced(n) for n in (0, 1, 3, 4, 6, 8)}
    expected |= {2: [repeated[0], repeated[2]], 5: [], 7: records[7][1] or []}
    send(kafka, topics, *records)
    environ = {**book_of(tmp_path), "KAFKA_CLOUDEVENTS": "binary"}
    with Flow(kafka, topics, tmp_path, environ={**PARKS_LATE, **environ}) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
        assert "kafka_headers_left_out_total 1.0" in flow.metrics()
        assert flow.terminate() == 0
    last = read_all(kafka, topics.pending)[-1]
    assert dict(_headers(last)).keys() == dict(lane_headers(0, 4) + traced(6)).keys()
    shutil.rmtree(tmp_path / "recovery")
    down.unlink()
    run_until(kafka, topics, tmp_path, len(records), **environ)
    assert check(kafka, topics).problems == []

    processed, failed, audit = (by_offset(kafka, topic) for topic in topics.outputs)
    assert audit.keys() == expected.keys()
    assert processed.keys() == {0, 2, 5, 6, 7, 8}
    assert failed.keys() == {3, 4}
    for topic, found in zip(topics.outputs, (processed, failed, audit), strict=True):
        for offset, headers in found.items():
            assert headers[6:] == expected[offset], (topic, offset)
            attributes = dict(headers[:6])
            assert attributes["ce_source"] == f"/{topic}".encode()
    for outcomes in (processed, failed):
        for offset, headers in outcomes.items():
            assert dict(headers)["ce_id"] == dict(audit[offset])["ce_id"]


def test_a_header_name_that_is_not_utf_8_stops_nothing(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Neither the flow, nor a start that reads it back from its own topics, nor the tools."""
    raw_headers.send(kafka.bootstrap, topics.requested, 0, request("pay-0"), *POISON)
    send(kafka, topics, (request("pay-1"), traced(1)))
    # Python makes what it calls often faster, and then looks at fewer errors.
    send(kafka, topics, *((request(f"often-{n}"), None) for n in range(2, OFTEN)))
    raw_headers.send(kafka.bootstrap, topics.requested, 0, request("last"), *POISON)
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(OFTEN + 1)
        assert "kafka_headers_left_out_total 2.0" in flow.metrics()
        assert flow.terminate() == 0
    for topic in (topics.lane_log, topics.pending) * 3:
        raw_headers.send(kafka.bootstrap, topic, 0, b"?", *POISON, b"version", b"lane", b"lanes")
    send(kafka, topics, (request("pay-2"), traced(2)))
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(OFTEN + 2)
        assert flow.terminate() == 0
    found = {n: headers for n, headers in by_offset(kafka, topics.outputs[2]).items() if headers}
    assert found == {1: traced(1), OFTEN + 1: traced(2)}
    assert check(kafka, topics).problems == []
    assert result(kafka, topics, "verify")[0] == 0
    assert result(kafka, topics, "pending")[0] == 0


def test_nothing_is_passed_on_if_nothing_is_wanted(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, (request("pay-0"), traced(0)))
    with Flow(kafka, topics, tmp_path, environ={"KAFKA_FORWARD_HEADERS": "none"}) as flow:
        flow.wait_until_ready()
        flow.wait_until_decided(1)
        assert flow.terminate() == 0
    assert [each.headers() for each in read_all(kafka, topics.outputs[0])] == [None]
