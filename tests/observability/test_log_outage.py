"""The lanes' log is read while Kafka is away, or does not answer; on a clock of its own."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
from confluent_kafka import KafkaError, TopicPartition

from dataflow.config.settings import Settings
from dataflow.errors import ConsumeError
from dataflow.kafka import retry
from dataflow.kafka.topic_reader import TopicReader
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.status import About, Status
from dataflow.process_context import Cluster
from dataflow.runtime import Runtime
from tests.support.required import REQUIRED

END_OFFSET = 3
TIMEOUT_S = 60.0
"""KAFKA_TRANSACTION_TIMEOUT, by default: so long nothing may come while Kafka is there."""


class Failed(NamedTuple):
    """An error, as the client gives it in the place of a record."""

    reason: KafkaError

    def error(self) -> KafkaError:
        return self.reason

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 1


class Consumer:
    """A client that gets past the end after a while; a call takes a second. Errors come first."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, after_s: float, *errors: KafkaError
    ) -> None:
        self._errors = list(errors)
        self.now_s = 1_000.0
        self._at_s = self.now_s + after_s
        monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def consume(self, *_: object) -> list[object]:
        self.now_s += 1
        errors, self._errors = self._errors, []
        return [Failed(error) for error in errors]

    def position(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        offset = END_OFFSET if self.now_s >= self._at_s else 0
        return [TopicPartition(wanted[0].topic, wanted[0].partition, offset)]


@pytest.fixture
def status() -> Status:
    return Status(About("1"), LivenessLimits(30))


def read(consumer: Consumer, status: Status) -> list[str]:
    """Read all of it; return why it was waited for."""
    reasons: list[str] = []
    runtime = Runtime(Settings.from_env(REQUIRED | {"LANES": "1"}))
    context = runtime.context.with_cluster(Cluster("", [0]))._replace(status=status)
    reader = TopicReader(context, context.settings.kafka.topic_lane_log, reasons.append)
    read = reader._read_to({0: END_OFFSET}, {0: 0}, consumer)  # type: ignore[arg-type]
    assert [message for messages, _ in read for message in messages] == []
    return reasons


def test_an_outage_is_waited_out_and_may_be_ended_by_a_signal(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(monkeypatch, after_s=10 * TIMEOUT_S)
    status.broker_down("all brokers are down")
    assert "payments.lane-log: 3 offsets are still to be read" in read(consumer, status)


def test_records_that_do_not_come_though_kafka_is_there_are_a_fault(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = Consumer(monkeypatch, after_s=10 * TIMEOUT_S)
    status.broker_up()
    with pytest.raises(ConsumeError, match="no record came for 60 s, 3 offsets before the end"):
        read(consumer, status)
    assert consumer.now_s - 1_000 < 1.1 * TIMEOUT_S


def test_an_error_that_passes_is_waited_out(
    status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    status.broker_up()
    assert read(Consumer(monkeypatch, 5, moved), status) == []


@pytest.mark.parametrize(
    "code",
    [KafkaError._BAD_MSG, KafkaError.TOPIC_AUTHORIZATION_FAILED],
    ids=["a damaged record", "a missing permission"],
)
def test_records_that_cannot_be_read_are_not_passed_over(
    code: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client would go on behind them."""
    status.broker_up()
    with pytest.raises(ConsumeError, match=r"payments.lane-log\[0\] near 1: "):
        read(Consumer(monkeypatch, 5, KafkaError(code)), status)
