"""The long waits of a process: for Kafka, and for its peers. It is alive, and reports it."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.flow_process import (
    Flow,
    Topics,
    mixed_requests,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import (
    COMMITS_AT_ONCE,
    RETRY_AT_MOST_S,
    START_TIMEOUT_S,
    STARTUP_GRACE_S,
    WATCH_EVERY_S,
    tuned,
)
from tests.support.invariants import check
from tests.support.kafka import Broker, Cluster
from tests.support.kafka.ports import free

COUNT = 600
SOON = {
    **tuned({WATCH_EVERY_S: 0.5, START_TIMEOUT_S: 1, RETRY_AT_MOST_S: 1}),
    "KAFKA_TRANSACTION_TIMEOUT": "10s",
}
"""Whatever has a deadline in an outage misses it within `OUTAGE_S`."""
OUTAGE_S = 14.0
STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def waits(flow: Flow) -> list[str]:
    """Return why it has logged that it waits for Kafka."""
    return [entry["reason"] for entry in flow.entries if entry["event"] == "waiting for Kafka"]


def reachable(flow: Flow) -> bool:
    return "payments_kafka_reachable 1.0" in flow.metrics()


@contextmanager
def members(
    kafka: Cluster, topics: Topics, directory: Path, numbers: list[int], count: int, **environ: str
) -> Iterator[list[Flow]]:
    """Yield some processes of a cluster of `count`."""
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(count))
    flows = [
        Flow(kafka, topics, directory, "-i", str(number), "-a", addresses, environ=environ)
        for number in numbers
    ]
    try:
        yield flows
    finally:
        for flow in flows:
            flow.kill()


# ---- for Kafka ----


def test_a_start_waits_for_kafka_and_goes_on_by_itself(
    kafka_control: Broker, topics: Topics, tmp_path: Path
) -> None:
    send(kafka_control, topics, mixed_requests(COUNT, seed=1))
    kafka_control.stop()
    with Flow(kafka_control, topics, tmp_path, environ=SOON | {"LIVENESS_TIMEOUT": "1s"}) as flow:
        flow.wait(lambda: waits(flow), 60, "waiting")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert flow.get("/live")[0] == 200
            assert flow.process.poll() is None
            time.sleep(0.2)
        health = flow.health()
        assert health["status"] == "kafka_unreachable"
        assert health["kafka"]["reachable"] is False
        assert "Connection refused" in health["kafka"]["reason"]
        assert f"no broker of {kafka_control.bootstrap} (KAFKA_BROKERS)" in flow.get("/ready")[1]
        assert not reachable(flow)
        [reason] = waits(flow)
        assert "Connection refused" in reason
        kafka_control.restart()
        flow.wait_until_decided(COUNT)
        flow.wait_until_ready()
        assert reachable(flow)
        assert [entry for entry in flow.entries if entry["event"] == "Kafka answers"]
        assert flow.terminate() == 0
    assert check(kafka_control, topics).problems == []


def test_a_name_that_cannot_be_resolved_is_waited_for_and_named(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """A Service of Kubernetes has no name in the DNS before its first pod is ready."""
    environ = SOON | {"KAFKA_BROKERS": "kafka.invalid:9092"}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait(lambda: waits(flow), 60, "waiting")
        flow.wait(
            lambda: (
                "kafka.invalid:9092 (KAFKA_BROKERS) answers: the name cannot be resolved"
                in flow.get("/ready")[1]
            ),
            20,
            "naming it",
        )
        assert flow.get("/live")[0] == 200
        assert flow.terminate() == 0


@pytest.mark.parametrize("at", ["building", "opening", "asking"])
def test_an_outage_during_a_start_is_waited_out(
    at: str, kafka_control: Broker, topics: Topics, tmp_path: Path
) -> None:
    """At each step that asks Kafka: where to start, to open the lanes, what they have committed."""
    send(kafka_control, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka_control, topics, tmp_path, COUNT)
    send(kafka_control, topics, mixed_requests(COUNT, seed=2))
    crash = {"CRASH_AT": "after-commit:1", **tuned({COMMITS_AT_ONCE: 1})}
    with Flow(kafka_control, topics, tmp_path, environ=crash) as flow:
        assert flow.wait_for_exit() == -signal.SIGKILL
    environ = SOON | {"CRASH_AT": f"{at}:1", "CRASH_BY": "SIGSTOP"}
    with Flow(kafka_control, topics, tmp_path, environ=environ) as flow:
        stat = Path(f"/proc/{flow.process.pid}/stat")
        flow.wait(lambda: " T " in stat.read_text(), 60, "suspended")
        kafka_control.stop()
        flow.process.send_signal(signal.SIGCONT)
        flow.wait(lambda: flow.health()["kafka"]["reachable"] is False, 60, "waiting")
        time.sleep(OUTAGE_S)
        events = {entry["event"] for entry in flow.entries}
        assert "Kafka is unreachable" in events
        flow.wait(lambda: waits(flow), 60, "waiting for an answer")
        assert flow.process.poll() is None, flow.log
        assert flow.get("/live")[0] == 200
        assert flow.get("/ready")[0] == 503
        kafka_control.restart()
        flow.wait_until_decided(2 * COUNT, 120)
        assert flow.terminate() == 0
    assert check(kafka_control, topics).problems == []


def test_a_signal_ends_a_start_in_an_outage(
    kafka_control: Broker, topics: Topics, tmp_path: Path
) -> None:
    """Also once the engine runs the flow: nothing has been decided yet."""
    environ = SOON | {"CRASH_AT": "opening:1", "CRASH_BY": "SIGSTOP"}
    with Flow(kafka_control, topics, tmp_path, environ=environ) as flow:
        stat = Path(f"/proc/{flow.process.pid}/stat")
        flow.wait(lambda: " T " in stat.read_text(), 60, "suspended")
        kafka_control.stop()
        flow.process.send_signal(signal.SIGCONT)
        flow.wait(lambda: waits(flow), 60, "waiting")
        assert flow.terminate() == 0


# ---- for its peers ----


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_processes_that_wait_for_another_to_start(
    number: signal.Signals, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The engine's main thread is in Rust then, and Python runs no handler."""
    with members(kafka, topics, tmp_path, [0, 2], 3) as flows:
        for flow in flows:
            flow.wait(
                lambda flow=flow: (
                    "other processes of the cluster to start" in flow.get("/ready")[1]
                ),
                30,
                "waiting",
            )
        time.sleep(1)  # let the engine get to its wait
        for flow in flows:
            flow.process.send_signal(number)
        for flow in flows:
            assert flow.wait_for_exit(20) == 0
            assert f'"reason":"{number.name}"' in flow.log.replace(": ", ":")


def test_a_process_that_waits_for_another_to_start_is_alive(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    environ = {"LIVENESS_TIMEOUT": "1s", **tuned({STARTUP_GRACE_S: 1})}
    with members(kafka, topics, tmp_path, [0], 2, **environ) as [flow]:
        flow.wait(
            lambda: "other processes of the cluster to start" in flow.get("/live")[1], 30, "waiting"
        )
        assert flow.get("/live")[0] == 200
        assert flow.terminate(20) == 0


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_a_process_that_waits_for_kafka(
    number: signal.Signals, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    with Flow(kafka, topics, tmp_path, environ={"KAFKA_BROKERS": "127.0.0.1:1"}) as flow:
        flow.wait(lambda: waits(flow), 60, "waiting")
        flow.process.send_signal(number)
        assert flow.wait_for_exit(20) == 0


def test_a_slow_gateway_holds_up_no_epoch(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    slow = {"SIMULATED_LATENCY": "4s", "LIVENESS_TIMEOUT": "2s"}
    with members(kafka, topics, tmp_path, [0, 1], 2, **slow) as flows:
        for flow in flows:
            flow.wait_until_ready()
        send(kafka, topics, iter([request("pay-1")]))
        answers: list[tuple[int, str]] = []
        deadline = time.monotonic() + 60
        while sum(flow.decided() for flow in flows) < 1:
            assert time.monotonic() < deadline
            answers += [flow.get("/live") for flow in flows]
            time.sleep(0.2)
        assert {code for code, _ in answers} == {200}
        assert not [reason for _, reason in answers if "close the epoch" in reason]
        assert flows[0].terminate() == 0
        assert flows[1].wait_for_exit() == 0


# ---- until all ids are restored ----


def test_the_number_of_ids_a_start_restores_is_shown(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, (request(f"pay-{n}") for n in range(COUNT)))
    run_until_decided(kafka, topics, tmp_path, COUNT)
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: flow.health()["remembered_ids"] == COUNT, 60, "restored")
        assert flow.health()["restore"] == {"ids": COUNT, "done": COUNT}
        metrics = flow.metrics()
        assert f"payments_restored_ids {COUNT}.0" in metrics
        assert f"payments_restore_ids {COUNT}.0" in metrics
        [entry] = [each for each in flow.entries if each["event"] == "remembered ids restored"]
        assert (entry["restored"], entry["ids"]) == (COUNT, COUNT)
        assert flow.terminate() == 0
