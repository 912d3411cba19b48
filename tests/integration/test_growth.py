"""What grows: the request topic by partitions; and what must not: the remembered ids."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import NewPartitions
from invariants import check
from kafkatest import Cluster
from kafkatest.ports import free
from product import Flow, Topics, mixed_requests, request, send

COUNT = 600
WATCHFUL = {"TUNE": "dataflow.connectors.cluster:_WATCH_EVERY_S=0.5"}


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def grow(kafka: Cluster, topics: Topics, partitions: int) -> None:
    admin = kafka.admin()
    for grown in admin.create_partitions([NewPartitions(topics.requested, partitions)]).values():
        grown.result(30)


def partitions(*flows: Flow) -> set[str]:
    """Those that are live."""
    found: dict[str, Any] = {}
    for flow in flows:
        found |= flow.health().get("partitions", {})
    return {number for number, partition in found.items() if partition["live"]}


# ---- partitions ----


def test_new_partitions_are_read_from_their_beginning(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The flow starts itself anew, as the same process, and knows the earlier payments."""
    with Flow(kafka, topics, tmp_path, environ=WATCHFUL) as flow:
        flow.wait_until_ready()
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        grow(kafka, topics, 5)
        send(kafka, topics, mixed_requests(COUNT, seed=1), partitions=5)
        flow.wait_until_decided(2 * COUNT)
        assert partitions(flow) == {"0", "1", "2", "3", "4"}
        [stop] = [entry for entry in flow.entries if entry["event"] == "stopping"]
        assert stop["restart"] is True
        assert "has 5 partitions now, not 3" in stop["reason"]
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


def test_new_partitions_restart_every_process(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Whichever of them notices first; here only the first one looks often enough."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    with (
        Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses, environ=WATCHFUL) as first,
        Flow(kafka, topics, tmp_path, "-i", "1", "-a", addresses) as second,
    ):
        first.wait_until_ready()
        second.wait_until_ready()
        grow(kafka, topics, 4)
        send(kafka, topics, mixed_requests(COUNT, seed=1), partitions=4)
        first.wait(lambda: first.decided() + second.decided() == COUNT, 40, "done")
        assert second.process.poll() is None
        assert first.terminate() == 0
        assert second.wait_for_exit() == 0
    assert check(kafka, topics).problems == []


# ---- remembered ids ----


class Clock:
    """Sends requests with timestamps of its own, to one partition."""

    def __init__(self, kafka: Cluster, topics: Topics) -> None:
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap})
        self._topic = topics.requested
        # Within the last minute: the time of an idle partition follows the clock at that distance.
        self._start_s = time.time() - 40
        self.count = 0

    def send(self, at_s: float, *payment_ids: str) -> None:
        """Requests that were made at `at_s`, in seconds since some time ago."""
        at_ms = int((self._start_s + at_s) * 1000)
        for payment_id in payment_ids:
            self._producer.produce(self._topic, request(payment_id), partition=0, timestamp=at_ms)
        assert self._producer.flush(20) == 0
        self.count += len(payment_ids)


def remembered(flow: Flow) -> int:
    [line] = [x for x in flow.metrics().splitlines() if x.startswith("payments_remembered_ids ")]
    return int(float(line.split()[1]))


def stored_segments(recovery: Path) -> list[str]:
    """The segments whose ids are in the recovery store."""
    with closing(sqlite3.connect(recovery / "part-0.sqlite3")) as store:
        rows = store.execute(
            "SELECT DISTINCT state_key FROM snaps"
            " WHERE step_id LIKE '%.remember' AND ser_change IS NOT NULL ORDER BY 1"
        )
        return [key for (key,) in rows]


def test_ids_are_forgotten_when_they_leave_the_window(kafka: Cluster, tmp_path: Path) -> None:
    """By the time of the records, whenever they are read; then memory and disk are free again."""
    topics = Topics.fresh(kafka, partitions=1)
    clock = Clock(kafka, topics)
    many = [f"pay-{n}" for n in range(100)]
    with Flow(kafka, topics, tmp_path, environ={"DEDUPE_WINDOW": "2s"}) as flow:
        flow.wait_until_ready()
        clock.send(0.0, *many)
        clock.send(1.9, *many)
        flow.wait_until_decided(clock.count)
        assert "payments_duplicates_total 100.0" in flow.metrics()
        assert remembered(flow) == 100

        clock.send(10.0, "another")
        flow.wait(lambda: remembered(flow) == 1, 20, "done forgetting")

        clock.send(10.1, *many[:10])
        flow.wait_until_decided(clock.count)
        assert "payments_duplicates_total 100.0" in flow.metrics()
        assert remembered(flow) == 11
        assert flow.terminate() == 0
    stored = stored_segments(tmp_path / "recovery")
    assert stored
    assert "00000/000000000" not in stored
    assert len(check(kafka, topics).problems) == 10  # decided twice, as they should be
