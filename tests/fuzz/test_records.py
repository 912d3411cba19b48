"""Any record, with any key, headers and timestamp: one audit event, and no crash.

The whole flow in memory, with the real source in front of it; a few lists play Kafka. What comes
out is judged by the shipped checker, which has every rule.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink, run_main
from confluent_kafka import Consumer, Message, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config import header_names
from dataflow.config.settings import Settings
from dataflow.core.epochs import Epochs
from dataflow.core.items import OutputBatch, SinkItem, SourceItem
from dataflow.core.lane_log import headers as log_headers
from dataflow.flow import flow
from dataflow.kafka.lane_offsets import Committed, LaneOffsets
from dataflow.kafka.resume_point import ResumePoint
from dataflow.kafka.source import RequestPartition
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from dataflow.process_context import Cluster
from dataflow.runtime import Runtime
from dataflow.service.shutdown import Lifecycle
from dataflow.verify.checker import Check, Report
from dataflow.verify.reader import Bounds, Chunk, LanePosition, Positions, Snapshot
from schemas.headers import MAX_VALUE_BYTES, Headers
from tests import published
from tests.explore import examples
from tests.support.required import REQUIRED

PARTITIONS = 2
LANES = 3
AT_ONCE = 4
ENVIRON = {
    **REQUIRED,
    "KAFKA_MESSAGE_MAX_BYTES": "65536",
    "LANES": str(LANES),
    "DEDUPE_WINDOW": "366d",
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
ids = st.sampled_from(["a", "b", "\x00", "é", "x" * 255])
requests = st.fixed_dictionaries(
    {
        "paymentId": ids,
        "userId": st.sampled_from(["u", "w"]),
        "amount": st.sampled_from([1, 1.5, "2.50", "1e2"]),
        "currency": st.sampled_from(["USD", "KWD"]),
        "paymentMethod": st.just("card"),
    },
    optional={"metadata": st.dictionaries(texts, json_values, max_size=2)},
)
nearly = st.builds(
    lambda request, changes: request | changes,
    requests,
    st.dictionaries(
        st.sampled_from(["paymentId", "userId", "amount", "currency", "paymentMethod", "metadata"]),
        json_values,
        max_size=2,
    ),
)


@st.composite
def mangled(draw: st.DrawFn) -> bytes:
    """Draw a request that something has happened to on its way."""
    value = bytearray(json.dumps(draw(nearly)).encode())
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(value)))
        end = min(len(value), start + draw(st.integers(0, 5)))
        value[start:end] = draw(st.binary(max_size=4))
    return bytes(value)


awkward = st.sampled_from(
    [
        b"",
        b"\x00",
        b"\xef\xbb\xbf{}",
        b"[" * 20_000,
        b'{"a":' * 20_000,
        b'{"paymentId":"' + b"x" * 70_000,
        b"\xff" * 70_000,
        b'{"amount":' + b"9" * 50_000 + b"}",
        b'{"amount":1e999999999}',
        b'{"paymentId":"\\ud800"}',
        b'{"paymentId":"a","paymentId":"b"}',
        json.dumps({"paymentId": "a", "metadata": {"x": "y" * 60_000}}).encode(),
    ]
)
values = st.one_of(
    st.none(),
    st.binary(max_size=60),
    json_values.map(json.dumps).map(str.encode),
    requests.map(json.dumps).map(str.encode),
    nearly.map(json.dumps).map(str.encode),
    mangled(),
    awkward,
)
headers = st.none() | st.lists(
    st.tuples(
        st.sampled_from(header_names.DEFAULT) | st.text(max_size=5),
        st.none() | st.binary(max_size=5) | st.just(bytes(MAX_VALUE_BYTES + 1)),
    ),
    max_size=3,
)
times_ms = st.sampled_from([-1, 0, 1, 1_767_225_600_000, 4_000_000_000_000, 2**62])
records = st.tuples(
    st.integers(0, PARTITIONS - 1),
    values,
    st.none() | st.binary(max_size=10),
    headers,
    times_ms,
    st.integers(1, 3),
)
"""Partition, value, key, headers, timestamp, distance to the offset before it."""


class Kafka:
    """The topics, and what is committed; as a `Reader`, what the checker reads."""

    def __init__(self, sent: list[Any], settings: Settings) -> None:
        self.kafka = settings.kafka
        self.input: dict[int, list[Message]] = {n: [] for n in range(PARTITIONS)}
        self.group: dict[int, int] = {}
        self.lanes: dict[int, dict[int, LanePosition]] = {}
        self.outputs: dict[str, list[tuple[bytes | None, bytes]]] = {
            topic: []
            for topic in (
                self.kafka.topic_processed,
                self.kafka.topic_failed,
                self.kafka.topic_audit,
                self.kafka.topic_pending,
            )
        }
        self.log: list[tuple[Headers, bytes]] = []
        for partition, value, key, some, time_ms, distance in sent:
            log = self.input[partition]
            log.append(
                Message(
                    topic=self.kafka.topic_requested,
                    partition=partition,
                    offset=(log[-1].offset() or 0) + distance if log else 0,
                    key=key,
                    value=value,
                    headers=some,
                    timestamp=(1, time_ms),
                )
            )

    def high(self, partition: int) -> int:
        log = self.input[partition]
        return (log[-1].offset() or 0) + 1 if log else 0

    def commit(self, lane: str, outgoing: SinkItem) -> None:
        if isinstance(outgoing, OutputBatch):
            log = self.outputs[outgoing.topic]
            log += zip(outgoing.keys, outgoing.values, strict=True)
            return
        if outgoing.entries:
            self.log.append((log_headers(int(lane), LANES), outgoing.entries))
        if outgoing.position:
            partition, offset = outgoing.position
            positions = self.lanes.setdefault(int(lane), {})
            before = positions[partition].offset if partition in positions else 0
            positions[partition] = LanePosition(max(offset, before), LANES)

    def look(self) -> Snapshot:
        bounds = {topic: {0: Bounds(0, len(log), len(log))} for topic, log in self.outputs.items()}
        bounds[self.kafka.topic_lane_log] = {0: Bounds(0, len(self.log), len(self.log))}
        ends = {n: self.high(n) for n in range(PARTITIONS)}
        bounds[self.kafka.topic_requested] = {n: Bounds(0, end, end) for n, end in ends.items()}
        return Snapshot(Positions(self.group, self.lanes), bounds, [])

    def read(self, topic: str, _bounds: object) -> Iterator[Chunk]:
        if topic in self.outputs:
            log = self.outputs[topic]
            keys, written = [key for key, _ in log], [value for _, value in log]
            if log:
                nothing = [None] * len(log)
                yield Chunk(0, list(range(len(log))), [0] * len(log), keys, [*written], nothing)
            return
        if topic == self.kafka.topic_lane_log:
            for offset, (some, value) in enumerate(self.log):
                yield Chunk(0, [offset], [0], [None], [value], [some])
            return
        for partition, sent in self.input.items():
            if sent:
                yield Chunk(
                    partition,
                    [message.offset() or 0 for message in sent],
                    [message.timestamp()[1] for message in sent],
                    [message.key() for message in sent],
                    [message.value() for message in sent],
                    [message.headers() for message in sent],
                )

    def stuck(self) -> dict[tuple[str, int], int]:
        return {}

    def record(self, _topic: str, _partition: int, _offset: int) -> tuple[bytes | None, bool]:
        return None, False


class FakeConsumer:
    """One partition's consumer; asks the flow to stop when all partitions are read."""

    def __init__(self, kafka: Kafka, partition: int, unread: set[int], stop: Lifecycle) -> None:
        self._kafka, self._partition = kafka, partition
        self._left = list(kafka.input[partition])
        self._unread, self._stop = unread, stop

    def consume(self, _at_most: int, _timeout_s: float) -> list[Message]:
        some, self._left = self._left[:AT_ONCE], self._left[AT_ONCE:]
        if not some:
            self._unread.discard(self._partition)
            if not self._unread:
                self._stop.request_stop("all is read")
        return some

    def position(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        high = self._kafka.high(self._partition)
        at = self._left[0].offset() if self._left else high
        return [TopicPartition(each.topic, each.partition, at or 0) for each in wanted]

    def get_watermark_offsets(self, *_: object, **_how: object) -> tuple[int, int]:
        return 0, self._kafka.high(self._partition)

    def commit(self, offsets: list[TopicPartition], **_: object) -> None:
        self._kafka.group |= {each.partition: each.offset for each in offsets}

    def close(self) -> None:
        pass


class NothingCommitted:
    def of(self, *_: object) -> Committed:
        return Committed({}, 0)


class MemorySource(FixedPartitionedSource[SourceItem, bytes]):
    def __init__(self, kafka: Kafka, runtime: Runtime) -> None:
        self._kafka = kafka
        status = Status(About("0"), LivenessLimits(60))
        self._context = runtime.context.with_cluster(
            Cluster("memory", list(range(PARTITIONS)))
        )._replace(status=status, lifecycle=Lifecycle(status), epochs=Epochs(0.01))
        self._unread = set(range(PARTITIONS))

    def list_parts(self) -> list[str]:
        return [f"{n:05d}" for n in range(PARTITIONS)]

    def build_part(
        self, _step_id: str, for_part: str, _resume_state: bytes | None
    ) -> StatefulSourcePartition[SourceItem, bytes]:
        number = int(for_part)
        consumer = FakeConsumer(self._kafka, number, self._unread, self._context.lifecycle)
        return RequestPartition(
            self._context,
            number,
            cast("Consumer", consumer),
            start=ResumePoint(offset=0, began_at=0, end_offset=0, looked_at_ms=0),
            offsets=cast("LaneOffsets", NothingCommitted()),
            on_close=lambda: None,
        )


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    made = Runtime(Settings.from_env(ENVIRON))
    with closing(made.charging):
        yield made


def run(sent: list[Any], runtime: Runtime) -> tuple[Kafka, Report]:
    """Have the flow decide what was sent, and the checker judge it."""
    kafka = Kafka(sent, runtime.context.settings)
    sink: list[tuple[str, SinkItem]] = []
    graph = flow(MemorySource(kafka, runtime), TestingSink(sink), runtime)
    run_main(graph, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    for lane, outgoing in sink:
        kafka.commit(lane, outgoing)
    with tempfile.TemporaryDirectory() as scratch:
        return kafka, Check(runtime.context.settings, kafka, Path(scratch)).run()


@examples(40)
@given(sent=st.lists(records, min_size=1, max_size=20))
def test_any_record_is_decided_once(sent: list[Any], runtime: Runtime) -> None:
    kafka, report = run(sent, runtime)
    assert report.findings.examples == []
    made = runtime.context.settings.kafka
    topics = {
        published.PROCESSED: made.topic_processed,
        published.FAILED: made.topic_failed,
        published.AUDIT: made.topic_audit,
    }
    audits = kafka.outputs[made.topic_audit]
    assert report.totals.audits == len(audits) == len(sent)
    largest = max(
        sum(map(len, (key or b"", value))) for log in kafka.outputs.values() for key, value in log
    )
    assert largest <= made.message_max_bytes
    for name, topic in topics.items():
        for _, value in kafka.outputs[topic]:
            published.assert_valid(name, value)


def test_the_test_would_notice(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """One event too few, and the checker reports it."""
    publish = Kafka.commit

    def lose(self: Kafka, lane: str, outgoing: SinkItem) -> None:
        publish(self, lane, outgoing)
        self.outputs[self.kafka.topic_audit][:1] = []

    monkeypatch.setattr(Kafka, "commit", lose)
    _, report = run([(0, b"{", None, None, 0, 1), (1, b"", None, None, 0, 1)], runtime)
    assert not report.holds
