"""The queries dashboards and alerts are built on, answered by a real Prometheus.

Its binaries come with Debian's `prometheus` package. Without them these tests are skipped, but
never in CI.
"""

import http.client
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from dataflow.web.server import Sidecar
from schemas.outcomes import ErrorCode
from tests.dashboard.watched import JOB, Prometheus

needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool"))
    and os.environ.get("CI", "").lower() != "true",
    reason="needs the prometheus and promtool binaries (Debian: apt-get install prometheus)",
)
pytestmark = needs_prometheus

DEADLINE_S = 120.0

SUCCESS_RATE = (
    "rate(payments_processed_total[5m]) / "
    "(rate(payments_processed_total[5m]) + rate(payments_failed_total[5m]))"
)
MEAN_DURATION = (
    "rate(payment_processing_duration_seconds_sum[5m]) / "
    "rate(payment_processing_duration_seconds_count[5m])"
)
MESSAGE_RATE = 'rate(kafka_messages_total{status="success"}[5m])'
QUERIES = [SUCCESS_RATE, MEAN_DURATION, MESSAGE_RATE]

TOPICS = ("requested", "processed", "failed", "audit")


@pytest.fixture
def metrics() -> Metrics:
    status = Status(About("1.2.3"), LivenessLimits(60))
    status.assign([0], lanes=1)
    status.partitions.at(0, 0, 1000)
    status.record_commit(0)
    return Metrics(status, input_topic="requested", output_topics=TOPICS[1:], log_topic="lane-log")


@pytest.fixture
def paying(metrics: Metrics) -> Iterator[None]:
    """Run a load of which four payments in five succeed, each decided in 20 ms, all along."""
    done = threading.Event()

    def pay() -> None:
        while not done.wait(0.05):
            metrics.consumed(ok=5, bad=0)
            metrics.decided(0.02, 5)
            metrics.committed(
                CommitCounts(
                    processed=4,
                    failed={ErrorCode.DECLINED: 1},
                    produced={"processed": 4, "failed": 1, "audit": 5},
                ),
                0.01,
            )

    thread = threading.Thread(target=pay)
    thread.start()
    yield
    done.set()
    thread.join()


@pytest.fixture
def sidecar(metrics: Metrics) -> Iterator[Sidecar]:
    running = Sidecar.start(metrics._status, metrics, 0, 0, host="127.0.0.1")
    yield running
    running.stop()


@pytest.fixture
def prometheus(sidecar: Sidecar, tmp_path: Path) -> Iterator[Prometheus]:
    """Yield a Prometheus that scrapes us every second."""
    with Prometheus.start(tmp_path, sidecar.metrics_port) as running:
        yield running


def numbers(vector: list[dict[str, Any]]) -> list[float]:
    return [float(sample["value"][1]) for sample in vector]


@pytest.mark.usefixtures("paying")
def test_the_queries_give_numbers_unchanged(prometheus: Prometheus, tmp_path: Path) -> None:
    give_up_at = time.monotonic() + DEADLINE_S
    results: list[list[dict[str, Any]]] = []
    # A rate needs two scrapes; then one query each is enough.
    while not (results and all(results)):
        log = (tmp_path / "prometheus.log").read_text()
        assert time.monotonic() < give_up_at, f"no data: {results}\n{log}"
        time.sleep(0.25)
        if prometheus.is_up():
            results = [prometheus.query(expression) for expression in QUERIES]

    success, duration, messages = results
    assert numbers(success) == [pytest.approx(0.8, abs=0.05)], "one series, and not NaN"
    assert numbers(duration) == [pytest.approx(0.02, rel=0.05)]
    assert {sample["metric"]["topic"] for sample in messages} == set(TOPICS)
    assert min(numbers(messages)) > 0
    assert numbers(prometheus.query(f'up{{job="{JOB}"}}')) == [1.0]


def test_prometheus_has_nothing_to_object_to(metrics: Metrics, sidecar: Sidecar) -> None:
    """`promtool check metrics` lints names, units and help texts."""
    connection = http.client.HTTPConnection("127.0.0.1", sidecar.metrics_port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read()
    connection.close()
    lint = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (lint.returncode, lint.stderr.decode()) == (0, "")
    assert metrics.registry
