"""From the old service to this one, back, and forth again, by the steps of docs/migration.md."""

import json
import re
import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from tests import ROOT
from tests.support.flow_process import (
    Flow,
    Topics,
    mixed_requests,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.invariants import event_of, find, place_of
from tests.support.kafka import Cluster

MIGRATION = (ROOT / "docs" / "migration.md").read_text()
GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
PARTITIONS = 3


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka, PARTITIONS)


class OldService:
    """The predecessor, simulated: joins its group, writes without transactions, then commits."""

    def __init__(self, kafka: Cluster, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap})
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka.bootstrap,
                "group.id": topics.group,
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
            }
        )
        self._consumer.subscribe([topics.requested])

    def handle(self, count: int) -> None:
        """Handle so many records, one after the other, as a KafkaJS `eachMessage` does."""
        for _ in range(count):
            [message] = self._consumer.consume(1, 60)
            assert message.error() is None
            self._write(message)
            self._consumer.commit(message=message, asynchronous=False)

    def stop(self) -> None:
        """Leave the group, and return once Kafka has noticed."""
        self._consumer.close()
        admin = self._kafka.admin()
        deadline_s = time.monotonic() + 60
        while self._state(admin) is not ConsumerGroupState.EMPTY:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def _state(self, admin: AdminClient) -> ConsumerGroupState:
        group = self._topics.group
        found: ConsumerGroupState = admin.describe_consumer_groups([group])[group].result(60).state
        return found

    def _write(self, message: Message) -> None:
        asked = json.loads(message.value() or b"")
        source = {"partition": message.partition(), "offset": message.offset()}
        processed, _, audit = self._topics.outputs
        event = {**asked, "status": "processed", "processedAt": "2026-01-31T09:30:00.123Z"}
        trail = {"event": "PAYMENT_PROCESSED", "paymentId": asked["paymentId"], "data": source}
        self._producer.produce(processed, json.dumps(event), asked["paymentId"])
        self._producer.produce(audit, json.dumps(trail), asked["paymentId"])
        assert self._producer.flush(30) == 0


class Ledger:
    """Everything that is in the topics now, split by which of the services has written it."""

    def __init__(self, kafka: Cluster, topics: Topics) -> None:
        self.inputs = {place_of(m): m.value() for m in read_all(kafka, topics.requested)}
        processed, failed, audit = (read_all(kafka, topic) for topic in topics.outputs)
        trail = [event_of(message) for message in audit]
        self.audits = [event for event in trail if "eventId" in event]
        self.outcomes = [e for e in map(event_of, processed + failed) if "eventId" in e]
        self.by_old = Counter(
            (int(event["data"]["partition"]), int(event["data"]["offset"]))
            for event in trail
            if "eventId" not in event
        )

    def problems(self) -> list[str]:
        """Return the records not handled once, by one of the two, and right if by ours."""
        twice = [
            f"{place} {n} times by the old service" for place, n in self.by_old.items() if n > 1
        ]
        ours = {place: v for place, v in self.inputs.items() if place not in self.by_old}
        return twice + find(ours, self.outcomes, self.audits).problems


def test_a_cut_over_a_roll_back_and_a_second_cut_over(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """With records waiting each time; nothing is lost, and nothing is done by both."""
    send(kafka, topics, payments("a", 300))
    old = OldService(kafka, topics)
    old.handle(250)
    with Flow(kafka, topics, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"group {topics.group} has members (rdkafka at " in refusal
    old.stop()
    stopped_at = offsets(kafka, topics)
    assert (len(stopped_at), sum(stopped_at.values())) == (PARTITIONS, 250)

    # The cut-over; a crash and the restart after it read the old events of the audit topic, too.
    send(kafka, topics, mixed_requests(600, seed=1))
    with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": "all-committed:1"}) as flow:
        assert flow.wait_for_exit() == -9
    assert resumed(flow) == stopped_at
    run_until_decided(kafka, topics, tmp_path, 900)
    ledger = Ledger(kafka, topics)
    assert sum(ledger.by_old.values()) == 250
    assert ledger.problems() == []

    # The roll-back, after a kill: so it is started and stopped once more.
    send(kafka, topics, payments("b", 300))
    with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": "all-committed:1"}) as flow:
        assert flow.wait_for_exit() == -9
    run_until_decided(kafka, topics, tmp_path, 1_200)
    assert offsets(kafka, topics) == ends(kafka, topics)
    send(kafka, topics, payments("c", 300))
    old = OldService(kafka, topics)
    old.handle(200)
    old.stop()
    ledger = Ledger(kafka, topics)
    assert sum(ledger.by_old.values()) == 450

    # What the recovery directory remembers ends where the old service has begun.
    with Flow(kafka, topics, tmp_path) as flow:
        assert "another service or tool has moved group" in flow.refusal()
    shutil.rmtree(tmp_path / "recovery")
    run_until_decided(kafka, topics, tmp_path, 1_500)
    ledger = Ledger(kafka, topics)
    assert sum(ledger.by_old.values()) == 450
    assert ledger.problems() == []


def test_payments_from_before_the_cut_over_are_unknown(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """A late repeat of one is a new payment, as the page warns; repeats of that one are not."""
    send(kafka, topics, iter([request("before")]))
    old = OldService(kafka, topics)
    old.handle(1)
    old.stop()
    send(kafka, topics, iter([request("before"), request("before")]))
    run_until_decided(kafka, topics, tmp_path, 3)
    ledger = Ledger(kafka, topics)
    assert ledger.problems() == []
    assert sorted(event["eventType"] for event in ledger.audits) == [
        "payment.duplicate",
        "payment.processed",
    ]


def test_a_group_without_an_offset_and_the_command_that_gives_it_one(
    kafka: Cluster, tmp_path: Path
) -> None:
    """Step 4: everything that was there before is left to the old service.

    The command is for one partition, and each run of it is a JVM: there is only one.
    """
    topics = Topics.fresh(kafka, 1)
    send(kafka, topics, payments("a", 30), 1)
    [reset] = re.findall(r"kafka-consumer-groups\.sh [^`]*--reset-offsets[^\n]*", MIGRATION)
    run_documented(kafka, topics, reset.replace("PARTITION", "0"))
    assert offsets(kafka, topics) == ends(kafka, topics, 1) == {0: 30}
    send(kafka, topics, payments("b", 30), 1)
    run_until_decided(kafka, topics, tmp_path, 60)
    assert {event["paymentId"][0] for event in Ledger(kafka, topics).audits} == {"b"}


def payments(prefix: str, count: int) -> Iterator[bytes]:
    return (request(f"{prefix}-{n}") for n in range(count))


def offsets(kafka: Cluster, topics: Topics) -> dict[int, int]:
    """Return what the page's commands show: the group is empty, and where each partition stands."""
    assert re.search(rf"{topics.group}\s.*\sEmpty\s", group_tool(kafka, topics, "--state"))
    shown = group_tool(kafka, topics, "--offsets")
    rows = re.findall(rf"{topics.requested}\s+(\d+)\s+(\d+)\s", shown)
    return {int(partition): int(offset) for partition, offset in rows}


def group_tool(kafka: Cluster, topics: Topics, view: str) -> str:
    [command] = re.findall(rf"kafka-consumer-groups\.sh .* {view}$", MIGRATION, re.MULTILINE)
    return run_documented(kafka, topics, command)


def run_documented(kafka: Cluster, topics: Topics, command: str) -> str:
    """Run a command of the page, on the topics and the group of the test."""
    words = shlex.split(command.replace("\\\n", " "))
    here = {"payments-service-group": topics.group}
    args = [here.get(word, word) for word in words]
    args = [a.replace("payments.payment-requested", topics.requested) for a in args]
    assert args[:3] == ["kafka-consumer-groups.sh", "--bootstrap-server", "$KAFKA_BROKERS"]
    return kafka.tool(GROUP_TOOL, *args[3:])


def ends(kafka: Cluster, topics: Topics, partitions: int = PARTITIONS) -> dict[int, int]:
    reader = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": "ends"})
    found = {
        partition: reader.get_watermark_offsets(TopicPartition(topics.requested, partition))[1]
        for partition in range(partitions)
    }
    reader.close()
    return found


def resumed(flow: Flow) -> dict[int, int]:
    """Return where each partition begins, according to the log."""
    lines = [e for e in flow.entries if e["event"] == "source partition resumes"]
    return {line["partition"]: line["offset"] for line in lines}
