"""One lane of the sink by itself, against a real Kafka."""

import threading
import time
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaException

from dataflow import process_context
from dataflow.config.settings import Settings
from dataflow.core.items import LaneProgress, OutputBatch
from dataflow.errors import CommitError, FencedError
from dataflow.kafka.commit_pool import CommitPool
from dataflow.kafka.lane_transaction import Lane
from dataflow.runtime import Runtime
from tests.support.flow_process import Topics
from tests.support.kafka import Cluster


def make_lane(kafka: Cluster, topics: Topics) -> Lane:
    settings = Settings.from_env(
        {
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "GATEWAY": "simulated",
            "KAFKA_TRANSACTION_TIMEOUT": "10s",
            "LANES": "1",
            **topics.environ(),
        }
    )
    context = Runtime(settings).context.with_cluster(process_context.Cluster("", [0]))
    lane = Lane(context, 0, CommitPool(), on_close=lambda: None)
    lane._finish_opening()
    return lane


class NeverBack:
    """A client as librdkafka can be when a coordinator went away: the timeout is not kept."""

    def __init__(self, lane: Lane) -> None:
        self.let_go = threading.Event()
        self._producer, lane._producer = lane._producer, self  # type: ignore[assignment]

    def send_offsets_to_transaction(self, *_: object) -> None:
        self.let_go.wait()

    def __len__(self) -> int:
        return len(self._producer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._producer, name)


def test_a_commit_that_does_not_come_back_is_given_up(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault like any other, so that the next run can decide what is open."""
    topics = Topics.fresh(kafka)
    monkeypatch.setattr("dataflow.kafka.lane_transaction._GRACE_S", 0.1)
    lane = make_lane(kafka, topics)
    lane._timeout_s = 0.2
    client = NeverBack(lane)
    lane.write_batch([OutputBatch(topics.outputs[2], [b"a"], [b"1"]), LaneProgress((0, 1))])
    # Or a Kafka that is slow to take the record would be the fault.
    assert client.flush(60) == 0
    try:
        with pytest.raises(CommitError, match=r"the Kafka client did not end its commit within"):
            lane.snapshot()
    finally:
        client.let_go.set()
    assert lane._status.last_commit_at is None


def test_a_fenced_lane_raises_the_fault_from_any_call(kafka: Cluster) -> None:
    """The client gives the first call the reason, any later one only that an error was fatal."""
    topics = Topics.fresh(kafka)
    audit = topics.outputs[2]
    older = make_lane(kafka, topics)
    older.write_batch([OutputBatch(audit, [b"a"], [b"1"]), LaneProgress((0, 1))])
    assert older._producer.flush(60) == 0
    make_lane(kafka, topics)
    with pytest.raises(KafkaException):
        older._producer.commit_transaction(60)
    with pytest.raises(FencedError, match="Another execution of this flow has taken over"):
        older._produce(audit, b"a", b"2")


def test_timestamps_that_cannot_be_true_are_counted_and_in_no_latency(kafka: Cluster) -> None:
    """1970 would page those on call, the year 2500 would hide what is late."""
    topics = Topics.fresh(kafka)
    audit = topics.outputs[2]
    lane = make_lane(kafka, topics)
    now_ms = int(time.time() * 1000)
    times_ms = np.array([0, 16_725_225_600_000, now_ms - 1000, now_ms - 500], np.int64)
    keys: list[bytes | None] = [b"a"] * len(times_ms)
    values = [b"1"] * len(times_ms)
    lane.write_batch([OutputBatch(audit, keys, values), LaneProgress((0, 4), times_ms=times_ms)])
    lane.snapshot()
    registry = lane._metrics.registry
    assert registry.get_sample_value("payments_implausible_timestamps_total") == 2
    assert registry.get_sample_value("payment_visible_duration_seconds_count") == 2
    # From the two good ones on, however long this took.
    seconds = registry.get_sample_value("payment_visible_duration_seconds_sum")
    assert seconds is not None
    assert 1.5 <= seconds <= 2 * (time.time() - now_ms / 1000) + 1.6
