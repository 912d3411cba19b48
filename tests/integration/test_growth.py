"""The request topic grows by partitions. Those of the lanes' log: `test_lane_log.py`."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, send
from tests.support.hooks.tuning import WATCH_EVERY_S, tuned
from tests.support.invariants import check
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

COUNT = 600
WATCHFUL = tuned({WATCH_EVERY_S: 0.5})


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def partitions(*flows: Flow) -> set[str]:
    """Return those that are live."""
    found: dict[str, Any] = {}
    for flow in flows:
        found |= flow.health().get("partitions", {})
    return {number for number, partition in found.items() if partition["live"]}


# ---- partitions ----


def test_new_partitions_are_read_from_their_beginning(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The flow starts itself again, as the same process, and remembers the earlier payments."""
    with Flow(kafka, topics, tmp_path, environ=WATCHFUL) as flow:
        flow.wait_until_ready()
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        topics.grow(kafka, 5)
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
    """The first one to notice starts it; here only the first one looks often enough."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    with (
        Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses, environ=WATCHFUL) as first,
        Flow(kafka, topics, tmp_path, "-i", "1", "-a", addresses) as second,
    ):
        first.wait_until_ready()
        second.wait_until_ready()
        topics.grow(kafka, 4)
        send(kafka, topics, mixed_requests(COUNT, seed=1), partitions=4)
        first.wait(lambda: first.decided() + second.decided() == COUNT, LIMIT_S, "done")
        assert second.process.poll() is None
        assert first.terminate() == 0
        assert second.wait_for_exit() == 0
    assert check(kafka, topics).problems == []
