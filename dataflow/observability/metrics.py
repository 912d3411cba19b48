"""Every metric of the process: its name, help text and labels, in the order they are exposed.

Those of the status, which are read at each scrape, are in `status_metrics`.

Rules of this file:
- Labels are bounded by configuration, by an enum or by ISO 4217, never by what a message contains,
  and every counter series exists at 0 from the start, so that `rate()` sees the first increase.
- Writers call once per batch or per transaction. What one transaction did is added under one
  lock: no scrape sees half of it.
- Counters restart at 0 with the process, as Prometheus expects.
"""

import threading
from collections.abc import Iterator, Sequence
from decimal import Decimal

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.histogram import BatchHistogram
from dataflow.observability.recent import Recent
from dataflow.observability.status import Status
from dataflow.observability.status_metrics import status_metrics
from schemas.money import EXPONENTS
from schemas.outcomes import ErrorCode

_DECIDE_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""From a batch with an instant gateway to a gateway at its deadline."""
_VISIBLE_BUCKETS_S = (
    *(0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 1800.0, 7200.0),
)
"""From a part of one `COMMIT_INTERVAL` to catching up after a long stop."""
_COMMIT_BUCKETS_S = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)


class Metrics(Collector):
    """The metrics of one process, exposed through `registry`; safe to use from any thread.

    Attributes:
        registry: Our own, not the client library's global one, which Bytewax exposes as well.
        recent: What was committed in the last minutes, for who looks without Prometheus.
    """

    def __init__(
        self, status: Status, *, input_topic: str, output_topics: Sequence[str], log_topic: str
    ) -> None:
        """Expose `status`; of `output_topics` the last is the audit topic."""
        self._status = status
        self._audit_topic = output_topics[-1]
        self.recent = Recent()
        self._input_topic = input_topic
        self._lock = threading.Lock()
        self._read = 0
        self._unreadable = 0
        self._implausible = 0
        self._headers_left_out = 0
        self._undelivered = dict.fromkeys([*output_topics, log_topic], 0)
        self._total = CommitCounts(
            failed=dict.fromkeys(ErrorCode, 0),
            approved_amounts=dict.fromkeys(EXPONENTS, Decimal()),
            declined_amounts=dict.fromkeys(EXPONENTS, Decimal()),
            produced=dict.fromkeys(output_topics, 0),
        )
        self._decide = BatchHistogram(
            "payment_processing_duration_seconds",
            "Time from reading an input record to deciding its outcome.",
            _DECIDE_BUCKETS_S,
        )
        self._visible = BatchHistogram(
            "payment_visible_duration_seconds",
            "Time from an input record's timestamp to the commit of its outcome; records with an "
            "implausible timestamp are left out.",
            _VISIBLE_BUCKETS_S,
        )
        self._commit = BatchHistogram(
            "kafka_commit_duration_seconds",
            "Time that one lane's transaction takes: flush, offsets and commit.",
            _COMMIT_BUCKETS_S,
        )
        self.registry = CollectorRegistry(auto_describe=True)
        for collector in (self, self._decide, self._visible, self._commit):
            self.registry.register(collector)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    # ---- written per batch ----

    def consumed(self, ok: int, bad: int) -> None:
        """Count records read from the input topic: `ok` readable ones, `bad` undecodable ones."""
        with self._lock:
            self._read += ok
            self._unreadable += bad

    def headers_left_out(self, count: int) -> None:
        """Count `count` headers that were to be passed on, and were not."""
        with self._lock:
            self._headers_left_out += count

    def decided(self, seconds: float, count: int, trace_id: str | None = None) -> None:
        """Count `count` records that got their outcome `seconds` after they were read.

        One of them may have a trace.
        """
        self._decide.observe(seconds, count)
        self._decide.exemplify(seconds, trace_id)

    # ---- written per transaction ----

    def committed(self, counts: CommitCounts, duration_s: float) -> None:
        """Count a lane's committed transaction, and what it took.

        Call it only then: an abort did nothing.

        Raises:
            KeyError: `counts` names a topic that is not one of ours; nothing is counted.
        """
        unknown = counts.produced.keys() - self._total.produced.keys()
        if unknown:
            raise KeyError(*unknown)
        with self._lock:
            self._total.add(counts)
            self.recent.add(counts)
        self._commit.observe(duration_s)

    def visible(self, seconds: float, count: int) -> None:
        """Count `count` outcomes committed `seconds` after their input records' timestamp."""
        self._visible.observe(seconds, count)

    def traced(self, seconds: float, trace_id: str | None) -> None:
        """Note the trace of an outcome that is visible `seconds` after its record's timestamp."""
        self._visible.exemplify(seconds, trace_id)

    def implausible(self, count: int) -> None:
        """Count `count` committed outcomes whose input records' timestamps cannot be true."""
        with self._lock:
            self._implausible += count

    def delivery_failed(self, topic: str, count: int = 1) -> None:
        """Count `count` records for `topic` that Kafka refused or lost; the transaction aborts.

        Raises:
            KeyError: `topic` is none that a lane writes to.
        """
        with self._lock:
            self._undelivered[topic] += count

    # ---- read by a scrape, and by the status page ----

    def total(self) -> CommitCounts:
        """Return what was committed since the process started."""
        total = CommitCounts()
        with self._lock:
            total.add(self._total)
        return total

    def collect(self) -> Iterator[Metric]:
        """Yield all counters as of one moment, then those of the status."""
        with self._lock:
            total = CommitCounts()
            total.add(self._total)
            undelivered = dict(self._undelivered)
            read, unreadable = self._read, self._unreadable
            implausible, left_out = self._implausible, self._headers_left_out
        yield from _payments(total, audited=total.produced[self._audit_topic])
        yield _amounts(total)
        yield from _lane_log(total)
        yield _messages(self._input_topic, read, unreadable, total.produced, undelivered)
        yield CounterMetricFamily(
            "kafka_delivery_errors_total",
            "Output records that Kafka refused or lost; each aborts its transaction.",
            value=sum(undelivered.values()),
        )
        yield CounterMetricFamily(
            "payments_implausible_timestamps_total",
            "Committed input records with a timestamp more than 30 days old or a minute ahead; "
            "payment_visible_duration_seconds leaves them out.",
            value=implausible,
        )
        yield CounterMetricFamily(
            "kafka_headers_left_out_total",
            "Headers of input records that KAFKA_FORWARD_HEADERS names and that are not passed on: "
            "too many, too large, or in a record with a header name that is not UTF-8.",
            value=left_out,
        )
        yield from status_metrics(self._status, self._input_topic)


def _payments(total: CommitCounts, *, audited: int) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "payments_processed_total",
        "Payments approved by the gateway and committed.",
        value=total.processed,
    )
    # Without labels, so that it can be added to the one above as it is.
    yield CounterMetricFamily(
        "payments_failed_total",
        "Payments declined or invalid, and committed.",
        value=sum(total.failed.values()),
    )
    by_code = CounterMetricFamily(
        "payments_failed_by_code_total", "payments_failed_total, by error code.", labels=["code"]
    )
    for code, count in total.failed.items():
        by_code.add_metric([code.value], count)
    yield by_code
    yield CounterMetricFamily(
        "payments_duplicates_total",
        "Repeats of a known payment with the same content; audited only.",
        value=total.duplicates,
    )
    yield CounterMetricFamily(
        "payments_conflicts_total",
        "Repeats of a known paymentId with other content: fraud or a bug; audited only.",
        value=total.conflicts,
    )
    yield CounterMetricFamily(
        "payments_parked_total",
        "Payments that began to wait for the gateway on the pending topic.",
        value=total.parked,
    )
    yield CounterMetricFamily(
        "payments_resolved_total",
        "Payments that got their outcome after they had been parked.",
        value=total.resolved,
    )
    yield CounterMetricFamily(
        "payments_audited_total",
        "Audit events committed; always the sum of processed, failed, duplicates and conflicts.",
        value=audited,
    )


def _lane_log(total: CommitCounts) -> Iterator[Metric]:
    yield CounterMetricFamily(
        "payments_lane_log_entries_total",
        "paymentIds written to the lane log: newly claimed, or seen again much later.",
        value=total.log_entries,
    )
    yield CounterMetricFamily(
        "payments_lane_log_bytes_total",
        "Bytes written to the lane log, before compression.",
        value=total.log_bytes,
    )


def _amounts(total: CommitCounts) -> Metric:
    """Return every currency from the start, some 330 series: rates must not miss the first."""
    amounts = CounterMetricFamily(
        "payments_amount_total",
        "Amounts of first requests, in major units of the currency, by outcome.",
        labels=["currency", "outcome"],
    )
    for outcome, by_currency in (
        ("processed", total.approved_amounts),
        ("declined", total.declined_amounts),
    ):
        for currency, amount in by_currency.items():
            amounts.add_metric([currency, outcome], float(amount))
    return amounts


def _messages(
    input_topic: str,
    read: int,
    unreadable: int,
    produced: dict[str, int],
    undelivered: dict[str, int],
) -> Metric:
    messages = CounterMetricFamily(
        "kafka_messages_total",
        "Records read from the input topic (error: undecodable) and committed to an output topic "
        "(error: not delivered).",
        labels=["topic", "status"],
    )
    messages.add_metric([input_topic, "success"], read)
    messages.add_metric([input_topic, "error"], unreadable)
    for topic, count in produced.items():
        messages.add_metric([topic, "success"], count)
        messages.add_metric([topic, "error"], undelivered[topic])
    return messages
