"""Records with timestamps that cannot be true, as senders with a broken clock write them."""

from pathlib import Path

from confluent_kafka import Producer

from tests.support.flow_process import LIMIT_S, Flow, Topics, request
from tests.support.hooks.tuning import LATENCY_GUESS_S, tuned
from tests.support.invariants import check
from tests.support.kafka import Cluster

SLOW = {
    "SIMULATED_LATENCY": "12s",
    "GATEWAY_PARK_AFTER": "60s",
    **tuned({LATENCY_GUESS_S: 20}),
}
"""Less than a lane waits, or the record would be done with by being parked."""


def lag_s(flow: Flow) -> float:
    """Return the largest lag in seconds that it shows."""
    samples = [line for line in flow.metrics().splitlines() if "lag_seconds{" in line]
    return max((float(line.rpartition(" ")[2]) for line in samples), default=0.0)


def test_a_record_of_1970_is_decided_and_pages_nobody(kafka: Cluster, tmp_path: Path) -> None:
    """While it waits for the gateway, it has waited since it was read, not for half a century."""
    topics = Topics.fresh(kafka)
    with Flow(kafka, topics, tmp_path, environ=SLOW) as flow:
        flow.wait_until_ready()
        sender = Producer({"bootstrap.servers": kafka.bootstrap})
        sender.produce(topics.requested, request("pay-1"), partition=0, timestamp=1000)
        assert sender.flush(LIMIT_S) == 0
        shown_s: list[float] = []

        def waits() -> bool:
            shown_s.append(lag_s(flow))
            return shown_s[-1] > 0

        flow.wait(waits, LIMIT_S, "waiting")
        assert shown_s[-1] < 3600
        flow.wait_until_decided(1)
        counted = [line for line in flow.metrics().splitlines() if "implausible" in line]
        assert "payments_implausible_timestamps_total 1.0" in counted
        assert "payment_visible_duration_seconds_count 0.0" in flow.metrics()
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []
