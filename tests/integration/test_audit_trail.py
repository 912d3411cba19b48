"""The audit trail, read back from a real Kafka: which record has claimed a paymentId."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from kafkatest import Broker, Cluster
from product import Topics

from dataflow.connectors.patience import Patience
from dataflow.connectors.trail import AuditTrail
from dataflow.core.memory import RECALLED_MS, Contested
from dataflow.core.segments import place
from dataflow.lifecycle import Lifecycle
from dataflow.settings import Settings
from dataflow.status import Status
from schemas.requests import key_of

MINUTE_MS = 60_000
REQUESTED = "t"


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@pytest.fixture
def trail(kafka: Cluster, topics: Topics) -> AuditTrail:
    return trail_of(kafka, topics)


def trail_of(kafka: Cluster, topics: Topics, **environ: str) -> AuditTrail:
    environ = {
        "KAFKA_BROKERS": kafka.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "GATEWAY": "simulated",
        "KAFKA_TRANSACTION_TIMEOUT": "30s",
        **topics.environ(),
        "KAFKA_TOPIC_REQUESTED": REQUESTED,
        **environ,
    }
    status = Status(version="test", liveness_timeout_s=60)
    return AuditTrail(Settings.from_env(environ).kafka, status)


def event(payment_id: str | None, offset: int, **fields: Any) -> dict[str, Any]:
    """An audit event of the record at `offset` of partition 1."""
    return {
        "eventId": "1",
        "eventType": "payment.processed",
        "paymentId": payment_id,
        "source": {"topic": REQUESTED, "partition": 1, "offset": offset},
        "occurredAt": "2026-01-01T00:00:00.000Z",
        **fields,
    }


def repeat(payment_id: str, offset: int, first: int) -> dict[str, Any]:
    source = {"topic": REQUESTED, "partition": 0, "offset": first}
    return event(payment_id, offset, eventType="payment.duplicate", firstSource=source)


def now_ms() -> int:
    return int(time.time() * 1000)


def publish(
    kafka: Cluster, topics: Topics, *events: dict[str, Any], at_ms: int | None = None
) -> None:
    publish_raw(kafka, topics, *(json.dumps(each).encode() for each in events), at_ms=at_ms)


def publish_raw(
    kafka: Cluster, topics: Topics, *values: bytes | None, at_ms: int | None = None
) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    for n, value in enumerate(values):
        producer.produce(topics.outputs[2], value, partition=n % 3, timestamp=at_ms or now_ms())
    assert producer.flush(30) == 0


def claims(
    trail: AuditTrail, *ids: str, since_ms: int | None = None, until_ms: int | None = None
) -> set[tuple[str, int, int]]:
    """Return what the trail tells of the ids: paymentId, partition and offset."""
    keys = np.frombuffer(b"".join(map(key_of, ids)), "<u8").reshape(-1, 2)
    since_ms = now_ms() if since_ms is None else since_ms
    until_ms = now_ms() if until_ms is None else until_ms
    found = trail.claims(Contested(keys, np.full(len(ids), since_ms), np.full(len(ids), until_ms)))
    names = {tuple(key): name for key, name in zip(keys.tolist(), ids, strict=True)}
    pairs = zip(found.keys.tolist(), found.origins.tolist(), strict=True)
    return {(names[tuple(key)], *place(origin)) for key, origin in pairs}


def test_a_first_request_names_itself_and_a_repeat_names_its_first(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    publish(kafka, topics, event("pay_1", 7), repeat("pay_2", 8, first=3), event("pay_3", 9))
    assert claims(trail, "pay_1", "pay_2") == {("pay_1", 1, 7), ("pay_2", 0, 3)}


def test_a_declined_request_claims_its_id_and_an_invalid_one_does_not(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    failed = {"eventType": "payment.failed"}
    declined = {"error": {"code": "card_expired", "message": "", "retryable": False}, **failed}
    invalid = {"error": {"code": "invalid", "message": "", "retryable": False}, **failed}
    publish(kafka, topics, event("pay_1", 1, **declined), event("pay_2", 2, **invalid))
    assert claims(trail, "pay_1", "pay_2") == {("pay_1", 1, 1)}


def test_what_is_no_event_of_ours_is_passed_over(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    publish_raw(kafka, topics, b"{", None, b"[]", b'{"paymentId":"pay_1"}')
    publish(kafka, topics, event(None, 1), event("pay_1", 2))
    assert claims(trail, "pay_1") == {("pay_1", 1, 2)}


@pytest.mark.parametrize(
    "differs",
    [
        {"topic": "another"},
        {"partition": -1},
        {"partition": 1 << 16},
        {"offset": -1},
        {"offset": 1 << 48},
    ],
)
def test_nor_is_one_of_a_record_that_is_none_of_ours(
    differs: dict[str, Any], kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    """Another flow may write to the same topic, and anybody may write nonsense."""
    source = {"topic": REQUESTED, "partition": 1, "offset": 7, **differs}
    publish(kafka, topics, event("pay_1", 0, source=source), event("pay_1", 2))
    publish(kafka, topics, event("pay_1", 1, eventType="payment.conflict", firstSource=source))
    assert claims(trail, "pay_1") == {("pay_1", 1, 2)}


def test_only_the_time_in_question_is_read(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    """An epoch (30 s here) and a minute of difference between clocks are allowed for."""
    hour_ms = 60 * MINUTE_MS
    then = now_ms() - 2 * hour_ms
    for n, at_ms in enumerate([-hour_ms, -MINUTE_MS, 0, MINUTE_MS, hour_ms]):
        publish(kafka, topics, event("pay_1", n), at_ms=then + at_ms)
    found = {offset for _, _, offset in claims(trail, "pay_1", since_ms=then, until_ms=then)}
    assert found >= {1, 2, 3}
    assert 0 not in found


def test_a_record_stamped_long_ago_does_not_make_it_read_for_ever(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    """Nor one stamped in the future: a request has whatever time its producer gives it."""
    publish(kafka, topics, event("pay_1", 1))
    assert claims(trail, "pay_1", since_ms=0, until_ms=RECALLED_MS) == {("pay_1", 1, 1)}
    assert len(trail._minutes) < 367 * 24 * 60
    publish(kafka, topics, event("pay_2", 2))
    later = trail_of(kafka, topics)
    assert claims(later, "pay_2", since_ms=1 << 60, until_ms=RECALLED_MS) == {("pay_2", 1, 2)}


def test_the_lanes_of_a_process_share_what_was_read(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    """Also of ids that the first one did not ask for."""
    publish(kafka, topics, event("pay_1", 1), event("pay_2", 2))
    assert claims(trail, "pay_1") == {("pay_1", 1, 1)}
    publish(kafka, topics, event("pay_2", 3))
    assert claims(trail, "pay_2") == {("pay_2", 1, 2)}, "was read a second time"


def test_what_is_not_committed_was_not_published(
    kafka: Cluster, topics: Topics, trail: AuditTrail
) -> None:
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "transactional.id": f"{topics.prefix}-abort"}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topics.outputs[2], json.dumps(event("pay_1", 1)).encode(), partition=0)
    producer.flush(30)
    producer.abort_transaction(30)
    publish(kafka, topics, event("pay_1", 2))
    assert claims(trail, "pay_1") == {("pay_1", 1, 2)}


def test_a_trail_that_cannot_be_read_leaves_the_doubt(
    kafka: Cluster, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataflow.connectors.patience._AT_MOST_S", 0.0)
    trail = trail_of(kafka, topics, KAFKA_TOPIC_AUDIT=f"{topics.prefix}.nowhere")
    assert claims(trail, "pay_1") == set()


def test_an_outage_leaves_no_doubt(
    kafka_control: Broker, topics: Topics, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As at any other step of a start, Kafka is waited for."""
    monkeypatch.setattr("dataflow.connectors.patience._AT_MOST_S", 0.0)
    monkeypatch.setattr("dataflow.connectors.bounds._TIMEOUT_S", 1.0)
    trail._ask = Patience(trail._status, Lifecycle(trail._status))
    publish(kafka_control, topics, event("pay_1", 1))
    kafka_control.stop()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(claims, trail, "pay_1", since_ms=now_ms())
        with pytest.raises(TimeoutError):
            found.result(5)
        kafka_control.restart()
        assert found.result(90) == {("pay_1", 1, 1)}


def test_a_start_is_not_held_up_for_ever(
    kafka: Cluster, topics: Topics, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dataflow.connectors.trail.LONGEST_S", 1e-9)
    publish(kafka, topics, event("pay_1", 1))
    assert claims(trail, "pay_1") == set()
