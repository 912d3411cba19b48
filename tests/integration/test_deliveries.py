"""The records that Kafka refuses on the way out, and those taken back on the way in."""

import json
import time
from pathlib import Path
from random import Random

import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from tests.support.flow_process import (
    LIMIT_S,
    Flow,
    Topics,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 30
LARGEST = 1_048_576
"""In bytes, with its framing; Kafka's default is hardly more."""
LARGE = {"note": Random(1).randbytes(10_000).hex()}
"""Also when it is compressed."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def take_records_of(kafka: Cluster, topic: str, max_bytes: int) -> None:
    """Let a topic take records of at most so many bytes."""
    entry = ConfigEntry(
        "max.message.bytes", str(max_bytes), incremental_operation=AlterConfigOpType.SET
    )
    wanted = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    admin = kafka.admin()
    for altered in admin.incremental_alter_configs([wanted]).values():
        altered.result(LIMIT_S)
    # The controller answers before the broker goes by it.
    deadline = time.monotonic() + LIMIT_S
    while takes(kafka, topic, max_bytes + 1) or not takes(kafka, topic, max_bytes // 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def takes(kafka: Cluster, topic: str, size: int) -> bool:
    """Return whether a topic takes a record of so many bytes; it has none of it in the end."""
    config = {"transactional.id": f"{topic}-takes", "message.max.bytes": 2 * LARGEST}
    producer = Producer({"bootstrap.servers": kafka.bootstrap, **config})
    errors: list[KafkaError | None] = []
    producer.init_transactions(LIMIT_S)
    producer.begin_transaction()
    producer.produce(topic, bytes(size), on_delivery=lambda error, _: errors.append(error))
    producer.flush(LIMIT_S)
    producer.abort_transaction(LIMIT_S)
    [error] = errors
    assert error is None or error.code() == KafkaError.MSG_SIZE_TOO_LARGE, error
    return error is None


def test_a_record_that_kafka_refuses_ends_the_flow(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """With nothing of its transaction committed; once Kafka takes it, all is done."""
    processed = topics.outputs[0]
    with Flow(kafka, topics, tmp_path, environ={"SIMULATED_DECLINE_RATE": "0"}) as flow:
        flow.wait_until_ready()
        take_records_of(kafka, processed, 10_000)
        send(kafka, topics, (request(f"pay-{n}", metadata=LARGE) for n in range(COUNT)))
        assert flow.wait_for_exit() == 1
    [fault] = [entry for entry in flow.entries if entry["event"] == "fault"]
    assert fault["kind"] == "CommitError"
    assert "could not deliver a record: " in fault["reason"]
    assert read_all(kafka, processed) == []

    take_records_of(kafka, processed, LARGEST)
    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert check(kafka, topics).problems == []


def test_a_request_that_was_taken_back(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Its sender's transaction was aborted: it was never made."""
    config = {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topics.prefix}-shop"}
    shop = Producer(config)
    shop.init_transactions(LIMIT_S)
    for name, end in (("back", shop.abort_transaction), ("meant", shop.commit_transaction)):
        shop.begin_transaction()
        for n in range(COUNT):
            shop.produce(topics.requested, request(f"{name}-{n}"), partition=0)
        assert shop.flush(LIMIT_S) == 0
        end(LIMIT_S)
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: len(read_all(kafka, topics.outputs[2])) >= COUNT, LIMIT_S, "done")
        assert flow.terminate() == 0
    decided = [
        json.loads(m.value() or b"")["paymentId"] for m in read_all(kafka, topics.outputs[2])
    ]
    assert sorted(decided) == sorted(f"meant-{n}" for n in range(COUNT))
