"""The replay of a start while Kafka is away, or has lost the records; on a clock of its own."""

import time
from types import SimpleNamespace

import pytest
from confluent_kafka import TopicPartition
from required import REQUIRED

from dataflow.connectors import source
from dataflow.connectors.source import RequestPartition
from dataflow.connectors.start import Start
from dataflow.core.epochs import Epochs
from dataflow.core.ledger import Ledger
from dataflow.errors import ConsumeError
from dataflow.lifecycle import Lifecycle
from dataflow.settings import Settings
from dataflow.status import Status

END_OFFSET = 3
TIMEOUT_S = 60.0
"""KAFKA_TRANSACTION_TIMEOUT, by default: so long no record may come while Kafka is there."""


class Consumer:
    """Gets past the end after a while; a second passes with each call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after_s: float) -> None:
        self.now_s = 1_000.0
        self._at_s = self.now_s + after_s
        clock = SimpleNamespace(monotonic=lambda: self.now_s, time=time.time)
        monkeypatch.setattr(source, "time", clock)

    def consume(self, *_: object) -> list[object]:
        self.now_s += 1
        return []

    def position(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        offset = END_OFFSET if self.now_s >= self._at_s else 0
        return [TopicPartition(wanted[0].topic, wanted[0].partition, offset)]


@pytest.fixture
def status() -> Status:
    return Status(version="1", liveness_timeout_s=30)


def replay(consumer: Consumer, status: Status) -> None:
    partition = RequestPartition(
        partition=0,
        consumer=consumer,  # type: ignore[arg-type]
        start=Start(0, 0, None, from_snapshot=False),
        ledger=Ledger(0, 1_000),
        settings=Settings.from_env(REQUIRED),
        cluster_id="",
        offsets=None,  # type: ignore[arg-type]
        status=status,
        lifecycle=Lifecycle(status),
        furthest_behind=lambda: 0,
        on_close=lambda: None,
        epochs=Epochs(1),
    )
    assert partition._read_up_to(END_OFFSET) == []


def test_an_outage_is_waited_out(status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(monkeypatch, after_s=10 * TIMEOUT_S)
    status.broker_down("all brokers are down")
    replay(consumer, status)


def test_records_that_kafka_no_longer_has_are_a_fault(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(monkeypatch, after_s=10 * TIMEOUT_S)
    status.broker_up()
    with pytest.raises(ConsumeError, match="were they deleted"):
        replay(consumer, status)
    assert consumer.now_s - 1_000 < 1.1 * TIMEOUT_S
