"""Asking for the offsets of a group: its coordinator may have moved, a transaction be open."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from dataflow.config.settings import Settings
from dataflow.kafka import lane_offsets
from dataflow.kafka.lane_offsets import committed_offsets
from tests.support.flow_process import Flow, Topics, mixed_requests, run_until_decided, send
from tests.support.kafka import Broker, Cluster, RemoteBroker
from tests.support.kafka.link import Asked

OFFSET_FETCH = 9
NOT_COORDINATOR = (16).to_bytes(2, "big")
REFUSALS = 12
COUNT = 100


class Moved:
    """A broker that answers the first questions for offsets as the wrong one does."""

    def __init__(self) -> None:
        self.refused = 0
        self._lock = threading.Lock()

    def __call__(self, asked: Asked, answer: bytes) -> bytes:
        with self._lock:
            if asked.api_key != OFFSET_FETCH or self.refused == REFUSALS:
                return answer
            self.refused += 1
        # The group's error is the last field but for the lists of tags, which are empty: that of
        # the answer and, from version 8 on, that of the group.
        tags = 2 if asked.version >= 8 else 1
        return answer[: -2 - tags] + NOT_COORDINATOR + answer[-tags:]


@pytest.fixture(scope="module")
def kafka_far(kafka: object) -> Iterator[RemoteBroker]:  # noqa: ARG001  (states that it needs one)
    with RemoteBroker.start() as broker:
        yield broker


def test_a_start_waits_for_the_coordinators(kafka_far: RemoteBroker, tmp_path: Path) -> None:
    """The client's own call for a group's offsets reads through a null pointer then."""
    topics = Topics.fresh(kafka_far)
    send(kafka_far, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka_far, topics, tmp_path, COUNT)
    send(kafka_far, topics, mixed_requests(COUNT, seed=2))
    kafka_far.link.edit = moved = Moved()
    with Flow(kafka_far.far, topics, tmp_path) as flow:
        flow.wait_until_decided(2 * COUNT)
        assert moved.refused == REFUSALS
        assert flow.terminate() == 0


def settings_for(kafka: Cluster, topics: Topics) -> Settings:
    return Settings.from_env(
        {
            "KAFKA_BROKERS": kafka.bootstrap,
            "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
            "GATEWAY": "simulated",
            **topics.environ(),
        }
    )


def test_an_offset_in_an_open_transaction_differs_from_no_answer(
    kafka: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client only reports that time is up."""
    topics = Topics.fresh(kafka)
    settings = settings_for(kafka, topics)
    monkeypatch.setattr(lane_offsets, "_STABLE_WITHIN_S", 1.0)
    client = {"bootstrap.servers": kafka.bootstrap}
    producer = Producer(client | {"transactional.id": topics.prefix})
    producer.init_transactions()
    producer.begin_transaction()
    consumer = Consumer(client | {"group.id": topics.group})
    group = consumer.consumer_group_metadata()
    consumer.close()
    producer.send_offsets_to_transaction([TopicPartition(topics.requested, 0, 7)], group)

    with pytest.raises(KafkaException) as caught:
        committed_offsets(settings.kafka, topics.group, [0])
    assert caught.value.args[0].code() == KafkaError.UNSTABLE_OFFSET_COMMIT
    assert committed_offsets(settings.kafka, topics.group, [0], stable=False) == {}

    producer.commit_transaction()
    # Within a second a slow machine gives no answer of any kind.
    monkeypatch.setattr(lane_offsets, "_STABLE_WITHIN_S", 60.0)
    after = committed_offsets(settings.kafka, topics.group, [0])
    assert {partition: each.offset for partition, each in after.items()} == {0: 7}


def test_an_outage_that_ends_is_not_taken_for_an_open_transaction(
    kafka_control: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer in time, and then one to those who do not mind a transaction: once more."""
    topics = Topics.fresh(kafka_control)
    settings = settings_for(kafka_control, topics)
    assert committed_offsets(settings.kafka, topics.group, [0]) == {}
    monkeypatch.setattr(lane_offsets, "_STABLE_WITHIN_S", 4.0)
    kafka_control.pause()
    resumed = threading.Timer(5, kafka_control.resume)
    resumed.start()
    assert committed_offsets(settings.kafka, topics.group, [0]) == {}
    resumed.join()
