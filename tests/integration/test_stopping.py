"""The end of the flow: orderly if asked to, at once if asked twice, with the cause if it breaks."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.flow_process import (
    LIMIT_S,
    Flow,
    Topics,
    mixed_requests,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import LATENCY_GUESS_S, tuned
from tests.support.invariants import check
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
COUNT = 600
SLOW = {"GATEWAY_CONCURRENCY": "1", "SIMULATED_LATENCY": "200ms"}
"""Ten payments take two seconds."""
PATIENT = {"GATEWAY_PARK_AFTER": "60s", **tuned({LATENCY_GUESS_S: 20})}
"""A flow that waits for a slow gateway for so long, also in a stop."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


@contextmanager
def two_processes(
    kafka: Cluster, topics: Topics, directory: Path, first: Mapping[str, str] | None = None
) -> Iterator[tuple[Flow, Flow]]:
    """Yield a cluster of two; `first` goes into the environment of the first one."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    with (
        Flow(kafka, topics, directory, "-i", "0", "-a", addresses, environ=first) as one,
        Flow(kafka, topics, directory, "-i", "1", "-a", addresses) as other,
    ):
        yield one, other


def committed(kafka: Cluster, topics: Topics) -> list[tuple[int, int]]:
    """Return the group's offset and lag of each partition, according to Kafka's own tool."""
    shown = kafka.tool(GROUP_TOOL, "--describe", "--group", topics.group)
    rows = re.findall(rf" {re.escape(topics.requested)} +\d+ +(\d+) +\d+ +(\d+)", shown)
    return [(int(offset), int(lag)) for offset, lag in rows]


def positions(flow: Flow) -> list[int]:
    """Return how far each partition is read, decided or not."""
    return [each["position"] for each in flow.health().get("partitions", {}).values()]


def causes(flow: Flow) -> list[str]:
    """Return what a process logged as the cause of its end, without the engine's own words."""
    entries = [json.loads(line) for line in flow.log.splitlines() if line.startswith("{")]
    return [entry["reason"] for entry in entries if "reason" in entry and "kind" in entry]


# ---- in order ----


def test_records_read_before_the_signal_are_decided(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """In the middle of its work; what is left has no event yet, and is for the next run."""
    count = send(kafka, topics, mixed_requests(10_000, seed=1))
    # All of it takes longer than anything between the first answer and the signal.
    slow = {"GATEWAY_CONCURRENCY": "8", "SIMULATED_LATENCY": "50ms"}
    with Flow(kafka, topics, tmp_path, environ=slow) as flow:
        flow.wait(lambda: flow.decided() > 0, LIMIT_S, "at work")
        assert flow.terminate() == 0
    decided = len(read_all(kafka, topics.outputs[2]))
    assert 0 < decided < count
    assert sum(offset for offset, _ in committed(kafka, topics)) == decided

    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_decided(count)
        assert "payments_replayed_records_total 0.0" in flow.metrics()
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []


def test_ctrl_c_leaves_no_lag(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """The records read in the epoch that was open then are committed; the group offset follows."""
    with Flow(kafka, topics, tmp_path, commit_interval="1s") as flow:
        flow.wait_until_ready()
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait(lambda: positions(flow) == [COUNT // 3] * 3, LIMIT_S, "at the end of the topic")
        flow.process.send_signal(signal.SIGINT)
        assert flow.wait_for_exit() == 0
    assert committed(kafka, topics) == [(COUNT // 3, 0)] * 3
    assert check(kafka, topics).problems == []


def test_as_the_first_process_of_a_container(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Linux ignores every signal to PID 1 that it has not asked for."""
    prefix = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    if os.geteuid() != 0:
        prefix += ["--user", "--map-root-user"]
    with Flow(kafka, topics, tmp_path, prefix=prefix) as flow:
        flow.wait_until_ready()
        found = subprocess.run(
            ["pgrep", "--parent", str(flow.process.pid)], check=True, capture_output=True, text=True
        )
        pid = int(found.stdout)
        assert re.search(r"^NSpid:\s.*\s1$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        os.kill(pid, signal.SIGTERM)
        assert flow.wait_for_exit() == 0


def test_a_signal_to_one_process_stops_both(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    with two_processes(kafka, topics, tmp_path) as (one, other):
        one.wait_until_ready()
        other.wait_until_ready()
        assert other.terminate() == 0
        assert one.wait_for_exit() == 0


def test_not_ready_from_the_signal_on(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Also while the gateway is still at work; what it was given is decided."""
    environ = PATIENT | {"SIMULATED_LATENCY": "10s"}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait_until_ready()
        send(kafka, topics, (request(f"pay-{n}") for n in range(10)), partitions=1)
        flow.wait(flow.charges, LIMIT_S, "charging")
        flow.process.send_signal(signal.SIGTERM)
        flow.wait(lambda: flow.get("/ready")[0] == 503, LIMIT_S, "unready")
        assert flow.health()["status"] == "draining"
        assert flow.wait_for_exit() == 0
    assert len(read_all(kafka, topics.outputs[2])) > 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_gateway_is_closed_once_at_the_end(
    workers: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Although the lanes end one by one; and what it was charging is decided."""
    with Flow(kafka, topics, tmp_path, "-w", workers, environ=SLOW) as flow:
        flow.wait_until_ready()
        send(kafka, topics, (request(f"pay-{n}") for n in range(10)))
        flow.wait(flow.charges, LIMIT_S, "charging")
        assert flow.terminate() == 0
    events = [entry["event"] for entry in flow.entries]
    assert events.count("gateway closed") == 1
    assert events.index("stopping") < events.index("gateway closed")


# ---- at once ----


def test_a_second_signal_ends_it_at_once(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """Its unfinished work is void, and done by the next run."""
    with Flow(kafka, topics, tmp_path, environ=PATIENT | {"SIMULATED_LATENCY": "60s"}) as flow:
        flow.wait_until_ready()
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait(flow.charges, LIMIT_S, "charging")
        flow.process.send_signal(signal.SIGTERM)
        flow.wait(lambda: flow.get("/ready")[0] == 503, LIMIT_S, "unready")
        assert flow.terminate() == 128 + signal.SIGTERM
    run_until_decided(kafka, topics, tmp_path, COUNT)
    assert check(kafka, topics).problems == []


# ---- by a fault ----

FAULT = {"CRASH_AT": "deciding:1", "CRASH_BY": "exception"}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_cause_of_a_fault_is_logged(
    workers: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with Flow(kafka, topics, tmp_path, "-w", workers, environ=FAULT) as flow:
        assert flow.wait_for_exit() == 1
    assert causes(flow) == ["broken on purpose"]
    [fault] = [entry for entry in flow.entries if entry["level"] == "critical"]
    assert fault["kind"] == "RuntimeError"
    assert fault["exception"][0]["frames"]


def test_a_fault_in_one_process_ends_both(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    send(kafka, topics, mixed_requests(COUNT, seed=1))
    with two_processes(kafka, topics, tmp_path, FAULT) as (faulty, other):
        assert faulty.wait_for_exit() == 1
        assert other.wait_for_exit() > 0
        assert causes(faulty) == ["broken on purpose"]


def test_a_second_execution_takes_over(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """With a recovery directory of its own, so that no lock keeps it from it."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Flow(kafka, topics, tmp_path) as first:
        first.wait_until_ready()
        with Flow(kafka, topics, elsewhere) as second:
            second.wait_until_ready()
            send(kafka, topics, mixed_requests(COUNT, seed=1))
            assert first.wait_for_exit() == 1
            [cause] = causes(first)
            assert "Another execution of this flow has taken over" in cause
            second.wait_until_decided(COUNT)
            assert second.terminate() == 0
    assert check(kafka, topics).problems == []
