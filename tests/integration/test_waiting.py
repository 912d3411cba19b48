"""The long waits of a process: for Kafka, and for its peers. It is alive, and reports it."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.flow_process import (
    LIMIT_S,
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
    "KAFKA_TRANSACTION_TIMEOUT": "20s",
}
"""Whatever has a deadline in an outage misses it within `OUTAGE_S`."""
OUTAGE_S = 24.0
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
        flow.wait(lambda: waits(flow), LIMIT_S, "waiting")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert flow.get("/live")[0] == 200
            assert flow.process.poll() is None
            time.sleep(0.2)
        # On a slow machine the client may first report that time was up.
        flow.wait(
            lambda: "Connection refused" in flow.health()["kafka"]["reason"], LIMIT_S, "refused"
        )
        health = flow.health()
        assert health["status"] == "kafka_unreachable"
        assert health["kafka"]["reachable"] is False
        assert f"no broker of {kafka_control.bootstrap} (KAFKA_BROKERS)" in flow.get("/ready")[1]
        assert not reachable(flow)
        assert all(f"no broker of {kafka_control.bootstrap}" in reason for reason in waits(flow))
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
        flow.wait(lambda: waits(flow), LIMIT_S, "waiting")
        flow.wait(
            lambda: (
                "kafka.invalid:9092 (KAFKA_BROKERS) answers: the name cannot be resolved"
                in flow.get("/ready")[1]
            ),
            LIMIT_S,
            "naming it",
        )
        assert flow.get("/live")[0] == 200
        assert flow.terminate() == 0


@contextmanager
def suspended(kafka: Broker, topics: Topics, directory: Path, at: str) -> Iterator[Flow]:
    """Yield a flow that is suspended at a step of its start."""
    environ = SOON | {"CRASH_AT": f"{at}:1", "CRASH_BY": "SIGSTOP"}
    with Flow(kafka, topics, directory, environ=environ) as flow:
        stat = Path(f"/proc/{flow.process.pid}/stat")
        flow.wait(lambda: " T " in stat.read_text(), LIMIT_S, "suspended")
        yield flow


@pytest.mark.timeout(480)
@pytest.mark.parametrize("steps", [["building"], ["opening", "asking"]], ids=" and ".join)
def test_an_outage_during_a_start_is_waited_out_or_ended_by_a_signal(
    steps: list[str], kafka_control: Broker, tmp_path: Path
) -> None:
    """At each step that asks Kafka: where to start, to open the lanes, what they have committed.

    A signal ends it also once the engine runs the flow: nothing has been decided yet. All share one
    outage, as it costs more than they do.
    """
    with ExitStack() as stack:
        flows: dict[str, tuple[Flow, Topics]] = {}
        for at in steps:
            topics, directory = Topics.fresh(kafka_control), tmp_path / at
            directory.mkdir()
            send(kafka_control, topics, mixed_requests(COUNT, seed=1))
            run_until_decided(kafka_control, topics, directory, COUNT)
            send(kafka_control, topics, mixed_requests(COUNT, seed=2))
            crash = {"CRASH_AT": "after-commit:1", **tuned({COMMITS_AT_ONCE: 1})}
            with Flow(kafka_control, topics, directory, environ=crash) as flow:
                assert flow.wait_for_exit() == -signal.SIGKILL
            flow = stack.enter_context(suspended(kafka_control, topics, directory, at))
            flows[at] = flow, topics
        (tmp_path / "ended").mkdir()
        ended = stack.enter_context(
            suspended(kafka_control, Topics.fresh(kafka_control), tmp_path / "ended", "opening")
        )
        kafka_control.stop()
        for flow in (ended, *(each for each, _ in flows.values())):
            flow.process.send_signal(signal.SIGCONT)
        ended.wait(lambda: waits(ended), LIMIT_S, "waiting")
        assert ended.terminate() == 0
        for at, (flow, _) in flows.items():
            flow.wait(
                lambda flow=flow: flow.health()["kafka"]["reachable"] is False,
                LIMIT_S,
                f"waiting at {at}",
            )
        time.sleep(OUTAGE_S)
        for at, (flow, _) in flows.items():
            flow.wait(
                lambda flow=flow: "Kafka is unreachable" in flow.log and waits(flow),
                LIMIT_S,
                f"waiting for an answer at {at}",
            )
            assert flow.process.poll() is None, flow.log
            assert flow.get("/live")[0] == 200
            assert flow.get("/ready")[0] == 503
        kafka_control.restart()
        for flow, topics in flows.values():
            flow.wait_until_decided(2 * COUNT)
            assert flow.terminate() == 0
            assert check(kafka_control, topics).problems == []


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
                LIMIT_S,
                "waiting",
            )
        time.sleep(1)  # let the engine get to its wait; before it, a signal is handled as well
        for flow in flows:
            flow.process.send_signal(number)
        for flow in flows:
            assert flow.wait_for_exit() == 0
            assert f'"reason":"{number.name}"' in flow.log.replace(": ", ":")


def test_a_process_that_waits_for_another_to_start_is_alive(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    environ = {"LIVENESS_TIMEOUT": "1s", **tuned({STARTUP_GRACE_S: 1})}
    with members(kafka, topics, tmp_path, [0], 2, **environ) as [flow]:
        flow.wait(
            lambda: "other processes of the cluster to start" in flow.get("/live")[1],
            LIMIT_S,
            "waiting",
        )
        assert flow.get("/live")[0] == 200
        assert flow.terminate() == 0


@pytest.mark.parametrize("number", STOPS)
def test_a_signal_ends_a_process_that_waits_for_kafka(
    number: signal.Signals, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    with Flow(kafka, topics, tmp_path, environ={"KAFKA_BROKERS": "127.0.0.1:1"}) as flow:
        flow.wait(lambda: waits(flow), LIMIT_S, "waiting")
        flow.process.send_signal(number)
        assert flow.wait_for_exit() == 0


def test_a_slow_gateway_holds_up_no_epoch(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    slow = {"SIMULATED_LATENCY": "4s", "LIVENESS_TIMEOUT": "2s"}
    with members(kafka, topics, tmp_path, [0, 1], 2, **slow) as flows:
        for flow in flows:
            flow.wait_until_ready()
        send(kafka, topics, iter([request("pay-1")]))
        answers: list[tuple[int, str]] = []
        deadline = time.monotonic() + LIMIT_S
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
        flow.wait(lambda: flow.health()["remembered_ids"] == COUNT, LIMIT_S, "restored")
        assert flow.health()["restore"] == {"ids": COUNT, "done": COUNT}
        metrics = flow.metrics()
        assert f"payments_restored_ids {COUNT}.0" in metrics
        assert f"payments_restore_ids {COUNT}.0" in metrics
        [entry] = [each for each in flow.entries if each["event"] == "remembered ids restored"]
        assert (entry["restored"], entry["ids"]) == (COUNT, COUNT)
        assert flow.terminate() == 0
