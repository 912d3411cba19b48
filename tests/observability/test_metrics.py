"""Every metric, as a scrape shows it."""

import sys
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.histogram import BatchHistogram
from dataflow.observability.liveness import LivenessLimits
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import About, Status
from schemas.money import EXPONENTS
from schemas.outcomes import ErrorCode

REQUESTED, PROCESSED, FAILED, AUDIT = "requested", "processed", "failed", "audit"


@pytest.fixture
def status() -> Status:
    return Status(
        About("1.2.3", "http", "staging"),
        LivenessLimits(60),
        wall=lambda: 1_700_000_000.0,
    )


@pytest.fixture
def metrics(status: Status) -> Metrics:
    return Metrics(
        status,
        input_topic=REQUESTED,
        output_topics=[PROCESSED, FAILED, AUDIT],
        log_topic="lane-log",
    )


def samples(metrics: Metrics) -> dict[str, float]:
    """Return each sample of a scrape as `name{label="value"}` to its value."""

    def each() -> Iterator[tuple[str, float]]:
        for family in parse_text(generate_latest(metrics.registry).decode()):
            for sample in family.samples:
                labels = ",".join(f'{key}="{value}"' for key, value in sample.labels.items())
                yield sample.name + (f"{{{labels}}}" if labels else ""), sample.value

    return dict(each())


def test_every_counter_is_there_at_zero_before_anything_happens(metrics: Metrics) -> None:
    seen = samples(metrics)
    expected = [
        "payments_processed_total",
        "payments_failed_total",
        "payments_duplicates_total",
        "payments_conflicts_total",
        "payments_replayed_records_total",
        "payments_implausible_timestamps_total",
        "payments_lane_log_entries_total",
        "payments_lane_log_bytes_total",
        "payments_remembered_ids",
        "payments_restored_ids",
        "payments_restore_ids",
        "kafka_delivery_errors_total",
        *(f'payments_failed_by_code_total{{code="{code}"}}' for code in ErrorCode),
        *(
            f'payments_amount_total{{currency="{currency}",outcome="{outcome}"}}'
            for currency in EXPONENTS
            for outcome in ("processed", "declined")
        ),
        "payments_audited_total",
        *(
            f'kafka_messages_total{{status="{outcome}",topic="{topic}"}}'
            for topic in (REQUESTED, PROCESSED, FAILED, AUDIT)
            for outcome in ("success", "error")
        ),
        "payment_processing_duration_seconds_count",
        "payment_visible_duration_seconds_count",
        "kafka_commit_duration_seconds_count",
    ]
    assert {name: seen.get(name) for name in expected} == dict.fromkeys(expected, 0.0)


def test_nothing_is_claimed_that_is_not_known_yet(metrics: Metrics) -> None:
    seen = samples(metrics)
    assert "kafka_last_commit_timestamp_seconds" not in seen
    assert "payments_last_epoch_timestamp_seconds" not in seen
    assert not [name for name in seen if name.startswith("kafka_consumer_lag")]


def test_a_committed_transaction_is_counted_as_a_whole(metrics: Metrics) -> None:
    counts = CommitCounts(
        processed=90,
        failed={ErrorCode.DECLINED: 4, ErrorCode.INVALID: 1},
        duplicates=3,
        conflicts=2,
        approved_amounts={"USD": Decimal("0.10"), "JPY": Decimal(500)},
        declined_amounts={"USD": Decimal("0.20")},
        produced={PROCESSED: 90, FAILED: 5, AUDIT: 100},
        log_entries=94,
        log_bytes=3_384,
    )
    metrics.committed(counts, 0.01)
    metrics.committed(counts, 0.01)
    seen = samples(metrics)
    assert seen["payments_lane_log_entries_total"] == 188
    assert seen["payments_lane_log_bytes_total"] == 6_768
    assert seen["payments_processed_total"] == 180
    assert seen["payments_failed_total"] == 10
    assert seen['payments_failed_by_code_total{code="declined"}'] == 8
    assert seen['payments_failed_by_code_total{code="invalid"}'] == 2
    assert seen["payments_duplicates_total"] == 6
    assert seen["payments_conflicts_total"] == 4
    assert seen['kafka_messages_total{status="success",topic="audit"}'] == 200
    assert seen["payments_audited_total"] == 200
    assert seen['payments_amount_total{currency="USD",outcome="processed"}'] == 0.2
    assert seen['payments_amount_total{currency="USD",outcome="declined"}'] == 0.4
    assert seen['payments_amount_total{currency="JPY",outcome="processed"}'] == 1000
    assert seen['payments_amount_total{currency="EUR",outcome="processed"}'] == 0
    assert counts.processed == 90, "the caller's counts is left alone"


def test_a_topic_that_is_not_ours_makes_no_new_series(metrics: Metrics) -> None:
    with pytest.raises(KeyError, match="elsewhere"):
        metrics.committed(CommitCounts(processed=1, produced={"elsewhere": 1}), 0.01)
    with pytest.raises(KeyError, match="elsewhere"):
        metrics.delivery_failed("elsewhere")
    assert samples(metrics)["payments_processed_total"] == 0, "and nothing is half counted"


def test_both_directions_and_both_ends_of_a_message_are_counted(metrics: Metrics) -> None:
    metrics.consumed(ok=98, bad=2)
    metrics.delivery_failed(AUDIT, 3)
    seen = samples(metrics)
    assert seen['kafka_messages_total{status="success",topic="requested"}'] == 98
    assert seen['kafka_messages_total{status="error",topic="requested"}'] == 2
    assert seen['kafka_messages_total{status="error",topic="audit"}'] == 3
    assert seen["kafka_delivery_errors_total"] == 3


def test_durations_are_taken_a_batch_at_a_time(metrics: Metrics) -> None:
    metrics.decided(0.02, 500)
    metrics.visible(1.2, 499)
    metrics.committed(CommitCounts(), 0.008)
    seen = samples(metrics)
    assert seen["payment_processing_duration_seconds_count"] == 500
    assert seen["payment_processing_duration_seconds_sum"] == pytest.approx(10.0)
    assert seen["payment_visible_duration_seconds_count"] == 499
    assert seen["kafka_commit_duration_seconds_count"] == 1
    assert seen["kafka_commit_duration_seconds_sum"] == pytest.approx(0.008)


def test_the_status_is_shown_as_it_is_now(metrics: Metrics, status: Status) -> None:
    status.assign([0, 7], lanes=2)
    status.lane_open(1)
    status.partitions.in_flight(7, 25, 1_700_000_000.0 - 60)
    status.partitions.at(7, 25, 25)
    status.partitions.committed_at(7, 20)
    status.epoch_closed()
    status.record_commit(1)
    status.record_remembered(0, 40)
    status.record_remembered(1, 2)
    status.replayed(9)
    with status.restoring(50) as restoring:
        restoring.advance(42)
    assert samples(metrics)["payments_kafka_reachable"] == 0, "no broker has answered yet"
    status.broker_up()
    seen = samples(metrics)
    assert seen['kafka_consumer_lag{partition="7",topic="requested"}'] == 5
    assert 'kafka_consumer_lag{partition="0",topic="requested"}' not in seen
    assert seen["kafka_last_commit_timestamp_seconds"] == 1_700_000_000.0
    assert seen["payments_remembered_ids"] == 42
    assert seen["payments_replayed_records_total"] == 9
    assert (seen["payments_restored_ids"], seen["payments_restore_ids"]) == (42, 50)
    assert (seen["payments_live"], seen["payments_ready"]) == (1, 0)
    assert (seen["payments_lanes"], seen["payments_lanes_open"]) == (2, 1)
    assert seen['kafka_consumer_lag_seconds{partition="7",topic="requested"}'] == 60
    assert seen["payments_last_epoch_timestamp_seconds"] == 1_700_000_000.0
    assert seen["payments_kafka_reachable"] == 1
    status.broker_down("all brokers are down")
    assert samples(metrics)["payments_kafka_reachable"] == 0
    status.broker_up()
    assert seen["payments_waiting_for_schemas"] == 0
    status.schemas_awaited = lambda: "records wait for schema id 9"
    assert samples(metrics)["payments_waiting_for_schemas"] == 1
    status.schemas_awaited = lambda: ""
    for partition in (0, 7):
        status.partitions.live(partition)
    status.lane_open(0)
    assert samples(metrics)["payments_ready"] == 1


def test_the_build_and_the_process_are_described(metrics: Metrics) -> None:
    seen = samples(metrics)
    [build] = [name for name in seen if name.startswith("payments_build_info")]
    assert 'version="1.2.3"' in build
    assert 'gateway="http"' in build
    assert 'environment="staging"' in build
    assert 'bytewax="0.21' in build
    assert 'python="3.' in build
    assert seen["process_resident_memory_bytes"] > 0
    assert [name for name in seen if name.startswith("python_info")]


def test_openmetrics_is_written_strictly(metrics: Metrics, status: Status) -> None:
    """The strict parser reads it back; it refuses bad bucket bounds, suffixes and duplicates."""
    metrics.decided(0.5, 3)
    status.partitions.at(0, 1, 2)
    status.record_commit(1)
    text = generate_openmetrics(metrics.registry).decode()  # type: ignore[no-untyped-call]
    families = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    types = {family.name: family.type for family in families}
    assert types["payments_processed"] == "counter"
    assert types["payment_processing_duration_seconds"] == "histogram"
    assert types["payments_build"] == "info"


def test_every_metric_has_a_help_text(metrics: Metrics) -> None:
    assert [f.name for f in metrics.registry.collect() if not f.documentation] == []


class TestBatchHistogram:
    def read(self, histogram: BatchHistogram) -> dict[str, float]:
        [family] = histogram.collect()
        return {s.labels.get("le", s.name.removeprefix("h_")): s.value for s in family.samples}

    def test_buckets_are_cumulative_and_their_bounds_belong_to_them(self) -> None:
        histogram = BatchHistogram("h", "help", (0.5, 2.0))
        histogram.observe(0.5, 10)
        histogram.observe(0.6, 5)
        histogram.observe(9.0)
        assert self.read(histogram) == {
            "0.5": 10,
            "2.0": 15,
            "+Inf": 16,
            "count": 16,
            "sum": pytest.approx(5 + 3 + 9),
        }

    @pytest.mark.parametrize("value", [-3.0, float("nan"), float("-inf"), float("inf")])
    def test_a_value_that_is_no_duration_does_not_spoil_the_sum(self, value: float) -> None:
        histogram = BatchHistogram("h", "help", (0.5,))
        histogram.observe(value, 2)
        assert self.read(histogram) == {"0.5": 2, "+Inf": 2, "count": 2, "sum": 0.0}

    @pytest.mark.parametrize("count", [0, -1])
    def test_no_observation_is_none(self, count: int) -> None:
        histogram = BatchHistogram("h", "help", (0.5,))
        histogram.observe(0.1, count)
        assert self.read(histogram)["count"] == 0


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns as often as they can, so that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_many_threads_lose_no_count(metrics: Metrics) -> None:
    """And no scrape in between sees a transaction in parts: processed equals audited."""
    done = threading.Event()
    torn: list[dict[str, float]] = []

    def scrape() -> None:
        while not done.is_set():
            seen = samples(metrics)
            audited = seen['kafka_messages_total{status="success",topic="audit"}']
            if seen["payments_processed_total"] != audited:
                torn.append(seen)

    def work() -> None:
        for _ in range(2000):
            metrics.decided(0.1, 3)
            metrics.consumed(3, 0)
            metrics.committed(CommitCounts(processed=3, produced={AUDIT: 3}), 0.01)

    scraper = threading.Thread(target=scrape)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in (scraper, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    scraper.join()
    seen = samples(metrics)
    assert torn == []
    assert seen["payments_processed_total"] == 24_000
    assert seen["payment_processing_duration_seconds_count"] == 24_000
    assert seen['kafka_messages_total{status="success",topic="requested"}'] == 24_000
