"""The status as metrics: what a scrape reads of it at that moment."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import version

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)

from dataflow.observability.status import Status


def status_metrics(status: Status, input_topic: str) -> Iterator[Metric]:
    """Yield the metrics of the status, in the order they are exposed."""
    yield _by_partition(
        "kafka_consumer_lag",
        "Input records whose outcome is not committed yet; absent until it is known.",
        input_topic,
        status.partitions.lags(),
    )
    yield _by_partition(
        "kafka_consumer_lag_seconds",
        "Age of the oldest input record whose outcome is not committed yet, or how long it has "
        "been waiting; 0 if there is none, absent until it is known.",
        input_topic,
        status.partitions.lag_seconds(),
    )
    # Without a value there is no sample.
    yield GaugeMetricFamily(
        "kafka_last_commit_timestamp_seconds",
        "Unix time of the last committed transaction; absent before the first.",
        value=status.last_commit_at,
    )
    yield GaugeMetricFamily(
        "payments_last_epoch_timestamp_seconds",
        "Unix time when the last epoch was closed; absent before the first.",
        value=status.last_epoch_at,
    )
    lanes_expected, lanes_open = status.lanes()
    yield GaugeMetricFamily("payments_lanes", "Lanes of this process.", value=lanes_expected)
    yield GaugeMetricFamily(
        "payments_lanes_open",
        "Lanes of this process whose producer is initialised; fewer than payments_lanes at start.",
        value=len(lanes_open),
    )
    yield GaugeMetricFamily(
        "payments_remembered_ids",
        "paymentIds that are remembered, in memory and in files, to recognise repeats.",
        value=status.remembered_ids,
    )
    restored, to_restore = status.restored_ids
    yield GaugeMetricFamily(
        "payments_restored_ids", "paymentIds that this start has restored so far.", value=restored
    )
    yield GaugeMetricFamily(
        "payments_restore_ids",
        "paymentIds that this start has to restore, as far as is known.",
        value=to_restore,
    )
    yield CounterMetricFamily(
        "payments_replayed_records_total",
        "Input records read again after a restart, to complete what was left open.",
        value=status.replayed_records,
    )
    yield GaugeMetricFamily(
        "payments_lane_log_foreign_records",
        "Records that this start has passed over in the lanes' log: no lane has written them.",
        value=status.foreign_log_records,
    )
    yield GaugeMetricFamily(
        "payments_ready", "1 if /ready answers 200.", value=int(status.ready()[0])
    )
    yield GaugeMetricFamily(
        "payments_kafka_reachable",
        "1 if a broker answered the last request; 0 until one has.",
        value=int(status.kafka_reachable is True),
    )
    yield GaugeMetricFamily(
        "payments_waiting_for_schemas",
        "1 while the start, or a record with a new schema id, waits for the schema registry.",
        value=int(bool(status.schemas_awaited())),
    )
    yield GaugeMetricFamily("payments_live", "1 if /live answers 200.", value=int(status.live()[0]))
    yield InfoMetricFamily(
        "payments_build",
        "Versions of this process, its payment gateway and its environment.",
        value={
            "version": status.about.version,
            "gateway": status.about.gateway,
            "environment": status.about.environment,
            "bytewax": version("bytewax"),
            "python": platform.python_version(),
        },
    )


def _by_partition(
    name: str, documentation: str, topic: str, values: Mapping[int, float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, documentation, labels=["topic", "partition"])
    for partition, value in values.items():
        family.add_metric([topic, str(partition)], value)
    return family
