"""The Grafana dashboard, row by row, as a person on call reads it: what is wrong, then where.

python -m grafana.dashboard > grafana/dashboard.json

Every selector has the variables `$job` and `$instance`; queries are written with `{}` in their
place.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

Panel = dict[str, Any]

UID = "payments-service"
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_MATCHERS = 'job=~"$job", instance=~"$instance"'
_GOOD, _WARN, _BAD, _PLAIN = "green", "orange", "red", "blue"
OBJECTIVE = 0.999
"""Share of the records with their outcome within 5 s: the home is k8s/80-prometheusrule.yaml."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana's JSON model."""
    return {
        "uid": UID,
        "title": "Payments",
        "description": "Payment requests, their outcomes, and the process that decides them.",
        "tags": ["payments", "kafka"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "templating": {"list": _variables()},
        "annotations": {"list": _annotations()},
        "links": _links(),
        "panels": list(_placed()),
    }


# ---- what is shown ----

ROWS: dict[str, list[Panel]] = {}


def _row(title: str, *panels: Panel) -> None:
    ROWS[title] = list(panels)


def q(expression: str, legend: str = "", **more: Any) -> dict[str, Any]:
    """Return one query of a panel."""
    expr = expression.replace("{}", f"{{{_MATCHERS}}}").replace("{,", f"{{{_MATCHERS}, ")
    return {"datasource": _DATASOURCE, "expr": expr, "legendFormat": legend or "__auto", **more}


def panel(
    kind: str,
    title: str,
    description: str,
    *targets: dict[str, Any],
    unit: str = "short",
    width: int = 8,
    height: int = 8,
    steps: list[tuple[float | None, str]] | None = None,
    **defaults: Any,
) -> Panel:
    """Return a panel; `steps` are its thresholds, each from a value on, the first without one."""
    colours = [{"value": value, "color": colour} for value, colour in steps or [(None, _PLAIN)]]
    config = {
        "unit": unit,
        "thresholds": {"mode": "absolute", "steps": colours},
        **defaults,
    }
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _DATASOURCE,
        "targets": [target | {"refId": chr(ord("A") + n)} for n, target in enumerate(targets)],
        "fieldConfig": {"defaults": config, "overrides": []},
        "gridPos": {"w": width, "h": height},
    }


def stat(title: str, description: str, *targets: dict[str, Any], **more: Any) -> Panel:
    """Return one number, coloured by its thresholds, over a small curve."""
    made = panel("stat", title, description, *targets, **{"width": 4, "height": 5} | more)
    made["options"] = {
        "colorMode": "background_solid" if "steps" in more else "value",
        "graphMode": "area",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "textMode": "value",
    }
    return made


def curves(
    title: str,
    description: str,
    *targets: dict[str, Any],
    stacked: bool = False,
    scale: str = "linear",
    **more: Any,
) -> Panel:
    """Return curves over time, with a table of their last and highest values."""
    custom = {
        "lineWidth": 1,
        "fillOpacity": 25 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none"},
        "scaleDistribution": {"type": "log", "log": 10} if scale == "log" else {"type": "linear"},
        "thresholdsStyle": {"mode": "line" if "steps" in more else "off"},
    }
    made = panel("timeseries", title, description, *targets, custom=custom, **{"min": 0} | more)
    made["options"] = {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return made


def heatmap(title: str, description: str, metric: str) -> Panel:
    """Return a histogram over time."""
    buckets = q(
        f"sum by (le) (increase({metric}_bucket{{}}[$__rate_interval]))", "{{le}}", format="heatmap"
    )
    made = panel("heatmap", title, description, buckets, unit="s", width=12)
    made["options"] = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64},
        "yAxis": {"unit": "s"},
        "tooltip": {"mode": "single", "yHistogram": True},
    }
    return made


def table(title: str, description: str, *targets: dict[str, Any], **more: Any) -> Panel:
    """Return a table of the values of now, a row for each label set."""
    instant = [target | {"instant": True, "format": "table"} for target in targets]
    made = panel("table", title, description, *instant, **more)
    hidden = {"Time": True, "__name__": True, "job": len(targets) == 1}
    organize = {"excludeByName": hidden, "renameByName": {"Value": "value"}}
    made["transformations"] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": organize},
    ]
    made["options"] = {"showHeader": True}
    return made


def quantiles(metric: str, *shares: float, of: str = "") -> list[dict[str, Any]]:
    """Return the quantiles of a histogram, or of its series with a label."""
    matchers = f"{{, {of}}}" if of else "{}"
    buckets = f"sum by (le) (rate({metric}_bucket{matchers}[$__rate_interval]))"
    return [q(f"histogram_quantile({each}, {buckets})", f"p{each * 100:g}") for each in shares]


_LATE = (
    '(1 - sum(increase(payment_visible_duration_seconds_bucket{, le="5.0"}[$__range]))'
    " / sum(increase(payment_visible_duration_seconds_count{}[$__range])))"
)
_FAILED = "sum(rate(payments_failed_total{}[$__rate_interval]))"
_PROCESSED = "sum(rate(payments_processed_total{}[$__rate_interval]))"
_ALL = "sum(rate(payments_audited_total{}[$__rate_interval]))"
_DECLINED = (
    'payments_failed_by_code_total{, code!~"tombstone|too_large|unknown_schema|malformed|invalid"}'
)
"""The failures that are answers of the gateway."""


def _decline_ratio(window: str) -> str:
    declined = f"sum(increase({_DECLINED}[{window}]))"
    return f"{declined} / (sum(increase(payments_processed_total{{}}[{window}])) + {declined})"


_HOLDS = {
    "misconfigured": "Misconfigured",
    "outage": "No answers",
    "parked": "Too many pending",
    "peer": "Another process",
}
"""The causes of a hold, the worst first."""


def _hold() -> str:
    """Return a query for the causes of now, as a number with a bit for each of them."""
    bits = {cause: 2**n for n, cause in enumerate(reversed(_HOLDS))}
    return " + ".join(
        f'{bit} * max(payments_gateway_held{{, cause="{cause}"}})' for cause, bit in bits.items()
    )


def _hold_texts() -> dict[str, dict[str, str]]:
    """Return the worst of the causes, for each such number."""
    texts = {"0": {"text": "Charging"}}
    for number in range(1, 2 ** len(_HOLDS)):
        worst = list(reversed(_HOLDS.values()))[number.bit_length() - 1]
        texts[str(number)] = {"text": worst}
    return texts


_row(
    "Headline",
    stat(
        "State",
        "The worst of the processes. Stuck: no epoch is closed, /live answers 503. Not ready: it "
        "starts, drains, has lost Kafka or receives no records; /ready answers 503.",
        q("min(payments_live{} + payments_live{} * payments_ready{})"),
        unit="none",
        steps=[(None, _BAD), (1, _WARN), (2, _GOOD)],
        mappings=[
            {
                "type": "value",
                "options": {
                    "0": {"text": "Stuck"},
                    "1": {"text": "Not ready"},
                    "2": {"text": "Flowing"},
                },
            }
        ],
    ),
    stat(
        "Success ratio",
        "Processed payments, of all processed and failed ones. Most failures are the customer's "
        "or the sender's: see Failures by reason.",
        q(f"{_PROCESSED} / ({_PROCESSED} + {_FAILED})"),
        unit="percentunit",
        max=1,
        steps=[(None, _BAD), (0.9, _WARN), (0.95, _GOOD)],
    ),
    stat(
        "On time",
        "Records whose outcome was committed within 5 s of their timestamp, over the time shown. "
        f"The objective is {OBJECTIVE:.1%} over 30 days.",
        q(f"1 - {_LATE}"),
        unit="percentunit",
        decimals=3,
        max=1,
        steps=[(None, _BAD), (OBJECTIVE, _GOOD)],
    ),
    stat(
        "Error budget left",
        "What is left of the records that may be late, if the time shown were the whole 30 days. "
        "Below 0: the objective is missed.",
        q(f"1 - {_LATE} / {1 - OBJECTIVE:g}"),
        unit="percentunit",
        steps=[(None, _BAD), (0, _WARN), (0.25, _GOOD)],
    ),
    stat(
        "p99 until visible",
        "Of 100 records, 99 have their outcome committed within this time of their timestamp.",
        *quantiles("payment_visible_duration_seconds", 0.99),
        unit="s",
        steps=[(None, _GOOD), (3, _WARN), (5, _BAD)],
    ),
    stat(
        "Oldest waiting",
        "Age of the oldest record without a committed outcome, over all partitions.",
        q("max(kafka_consumer_lag_seconds{})"),
        unit="s",
        steps=[(None, _GOOD), (30, _WARN), (300, _BAD)],
    ),
)
_row(
    "Outcomes",
    curves(
        "Outcomes",
        "Outcomes of the records, per second. A repeat changes nothing: it is only audited.",
        q(_PROCESSED, "processed"),
        q(_FAILED, "failed"),
        q("sum(rate(payments_duplicates_total{}[$__rate_interval]))", "duplicates"),
        q("sum(rate(payments_conflicts_total{}[$__rate_interval]))", "conflicts"),
        unit="ops",
        stacked=True,
    ),
    curves(
        "Failures by reason",
        "invalid, malformed, too_large, unknown_schema and tombstone are the sender's fault; the "
        "others are answers of the payment gateway.",
        q(
            "sum by (code) (rate(payments_failed_by_code_total{}[$__rate_interval]))",
            "{{code}}",
        ),
        unit="ops",
        stacked=True,
    ),
    curves(
        "Success ratio",
        "Processed, of all processed and failed payments. The alert is below 90 % of ten minutes, "
        "for five.",
        q(f"{_PROCESSED} / ({_PROCESSED} + {_FAILED})", "success"),
        unit="percentunit",
        max=1,
        steps=[(None, _BAD), (0.9, _GOOD)],
    ),
)
_row(
    "Latency",
    heatmap(
        "Until visible",
        "From a record's timestamp until its outcome was committed: how long a customer waits.",
        "payment_visible_duration_seconds",
    ),
    heatmap(
        "Until decided",
        "From reading a record until its outcome was decided: mostly the gateway.",
        "payment_processing_duration_seconds",
    ),
    curves(
        "Until visible: quantiles",
        "From a record's timestamp until its outcome was committed. The line is the objective.",
        *quantiles("payment_visible_duration_seconds", 0.5, 0.95, 0.99),
        unit="s",
        width=12,
        steps=[(None, _GOOD), (5, _BAD)],
    ),
    curves(
        "Until decided: mean and quantiles",
        "From reading a record until its outcome was decided.",
        q(
            "sum(rate(payment_processing_duration_seconds_sum{}[$__rate_interval]))"
            " / sum(rate(payment_processing_duration_seconds_count{}[$__rate_interval]))",
            "mean",
        ),
        *quantiles("payment_processing_duration_seconds", 0.5, 0.99),
        unit="s",
        width=12,
    ),
)
_row(
    "Payment gateway",
    stat(
        "State",
        "The worst of the processes. Except when it charges, the flow reads nothing: the gateway "
        "answers nobody, or refuses our credentials or URL, or too many payments wait for it; or "
        "another process of the cluster holds for one of these.",
        q(_hold()),
        unit="none",
        steps=[(None, _GOOD), (1, _BAD)],
        mappings=[{"type": "value", "options": _hold_texts()}],
    ),
    stat(
        "Held for",
        "The time for which the flow has read nothing because of the gateway; the longest of the "
        "processes. It goes on by itself at the first answer.",
        q("max(payments_gateway_held_seconds{})"),
        unit="s",
        steps=[(None, _GOOD), (1, _WARN), (120, _BAD)],
    ),
    stat(
        "Pending",
        "Payments without an answer in time, which wait on the pending topic. They are asked for "
        "again after 1 m, 5 m, 15 m, 1 h, 4 h, 12 h; after an outage at once.",
        q("sum(payments_pending{})"),
        steps=[(None, _GOOD), (100, _WARN)],
    ),
    stat(
        "Oldest pending",
        "The time since the oldest of them was put there.",
        q("max(payments_pending_oldest_seconds{})"),
        unit="s",
        steps=[(None, _GOOD), (3600, _WARN), (6 * 3600, _BAD)],
    ),
    stat(
        "Unresolved",
        "Pending payments that a person has to decide: there is no safe way to ask for them any "
        "more.",
        q("sum(payments_unresolved{})"),
        steps=[(None, _GOOD), (1, _BAD)],
    ),
    stat(
        "Decline ratio",
        "Payments that the gateway declined, of all that it decided. What is usual is below.",
        q(_decline_ratio("$__range")),
        unit="percentunit",
        max=1,
    ),
    curves(
        "Replies",
        "By kind, per second. NotExecuted and Unknown are no answers: the payment is asked for "
        "again, under the same key. Pending: the provider decides later. Misconfigured: it refuses "
        "us.",
        q("sum by (reply) (rate(payments_gateway_replies_total{}[$__rate_interval]))", "{{reply}}"),
        unit="ops",
        stacked=True,
    ),
    curves(
        "Calls in flight, and what waits for one",
        "The window is what may be in flight: after an outage it opens from one. Queued: payments "
        "that were never asked for. Waiting: those that are asked for again at their time.",
        q("sum(payments_gateway_in_flight{})", "in flight"),
        q("sum(payments_gateway_window{})", "window"),
        q("sum(payments_gateway_queued{})", "queued"),
        q("sum(payments_gateway_waiting{})", "waiting"),
    ),
    curves(
        "Calls",
        "By kind, per second. Replays: charges under a key that may have been sent before; the "
        "provider answers them without charging again.",
        q("sum by (call) (rate(payments_gateway_calls_total{}[$__rate_interval]))", "{{call}}"),
        q("sum(rate(payments_gateway_key_replays_total{}[$__rate_interval]))", "replays"),
        unit="ops",
    ),
    heatmap(
        "Time that a call takes",
        "All calls: those that fail at once are at the bottom, timeouts at the top.",
        "payments_gateway_call_duration_seconds",
    ),
    curves(
        "Time to a decision: mean and quantiles",
        "The calls that approved or declined a payment.",
        q(
            'sum(rate(payments_gateway_call_duration_seconds_sum{, answer="definite"}'
            "[$__rate_interval]))"
            ' / sum(rate(payments_gateway_call_duration_seconds_count{, answer="definite"}'
            "[$__rate_interval]))",
            "mean",
        ),
        *quantiles("payments_gateway_call_duration_seconds", 0.5, 0.99, of='answer="definite"'),
        unit="s",
        width=12,
    ),
    curves(
        "Pending and unresolved",
        "At the limit the flow reads nothing; unresolved payments do not count for it.",
        q("sum(payments_pending{})", "pending"),
        q("sum(payments_unresolved{})", "unresolved"),
        q("min(payments_pending_max{})", "limit of each process"),
    ),
    curves(
        "Parked, resolved, and holds",
        "Payments that began to wait on the pending topic, and that got their outcome after that; "
        "and how often the flow began to hold.",
        q("sum(increase(payments_parked_total{}[$__rate_interval]))", "parked"),
        q("sum(increase(payments_resolved_total{}[$__rate_interval]))", "resolved"),
        q("sum(increase(payments_gateway_holds_total{}[$__rate_interval]))", "holds"),
    ),
    curves(
        "Declines, and what is usual",
        "Share of the declined payments now, in 15 minutes, and in a day. The alert is at twice "
        "the usual share, and five points above it.",
        q(_decline_ratio("$__rate_interval"), "now"),
        q(_decline_ratio("15m"), "15 minutes"),
        q(_decline_ratio("1d"), "a day"),
        unit="percentunit",
    ),
)
_row(
    "Money",
    curves(
        "Processed, by currency",
        "Money of the processed payments, in major units of each currency, a second.",
        q(
            "sum by (currency)"
            ' (rate(payments_amount_total{, outcome="processed"}[$__rate_interval])) > 0',
            "{{currency}}",
        ),
        unit="none",
        scale="log",
        width=12,
    ),
    table(
        "Totals, by currency and outcome",
        "Money of first requests over the time shown, in major units. Processed and declined add "
        "up to what was asked for.",
        q("sum by (currency, outcome) (increase(payments_amount_total{}[$__range])) > 0"),
        unit="locale",
        width=12,
    ),
)
_row(
    "Repeats",
    curves(
        "Share of repeats",
        "Repeats of a known payment, of all records: with the same content (duplicates), with "
        "another one (conflicts).",
        q(f"sum(rate(payments_duplicates_total{{}}[$__rate_interval])) / {_ALL}", "duplicates"),
        q(f"sum(rate(payments_conflicts_total{{}}[$__rate_interval])) / {_ALL}", "conflicts"),
        unit="percentunit",
        width=12,
    ),
    stat(
        "Conflicts",
        "A paymentId that came again with other content, over the time shown: fraud or a bug.",
        q("sum(increase(payments_conflicts_total{}[$__range]))"),
        height=8,
        steps=[(None, _GOOD), (1, _WARN)],
    ),
    stat(
        "Duplicates",
        "Repeats with the same content over the time shown.",
        q("sum(increase(payments_duplicates_total{}[$__range]))"),
        height=8,
    ),
    stat(
        "Remembered ids",
        "Payment ids that are known, over all lanes, in memory and in files.",
        q("sum(payments_remembered_ids{})"),
        height=8,
    ),
)
_row(
    "Kafka",
    curves(
        "Lag, by partition",
        "Records without a committed outcome.",
        q("sum by (partition) (kafka_consumer_lag{})", "{{partition}}"),
        stacked=True,
    ),
    curves(
        "Oldest unprocessed, by partition",
        "Age of the oldest record without a committed outcome.",
        q("max by (partition) (kafka_consumer_lag_seconds{})", "{{partition}}"),
        unit="s",
    ),
    curves(
        "Records, by topic",
        "Read from the request topic, committed to the output topics. Records with a timestamp "
        "that cannot be true are in no latency: a sender's clock is wrong.",
        q(
            "sum by (topic, status) (rate(kafka_messages_total{}[$__rate_interval]))",
            "{{topic}} {{status}}",
        ),
        q(
            "sum(rate(payments_implausible_timestamps_total{}[$__rate_interval]))",
            "timestamps that cannot be true",
        ),
        unit="cps",
    ),
    curves(
        "Commit time",
        "One lane's transaction: flush, offsets, commit.",
        *quantiles("kafka_commit_duration_seconds", 0.5, 0.99),
        unit="s",
    ),
    curves(
        "Commits",
        "Transactions a second, over all lanes.",
        q("sum(rate(kafka_commit_duration_seconds_count{}[$__rate_interval]))", "commits"),
        unit="ops",
    ),
    curves(
        "Since the last commit",
        "By process. It also grows while there is nothing to commit.",
        q("time() - kafka_last_commit_timestamp_seconds{}", "{{instance}}"),
        unit="s",
    ),
    stat(
        "Audit parity",
        "Outcomes less audit events. Any difference is a bug, at once: each record has one of "
        "each.",
        q(
            "sum(payments_processed_total{} + payments_failed_total{}"
            " + payments_duplicates_total{} + payments_conflicts_total{}"
            " - payments_audited_total{})"
        ),
        unit="none",
        width=6,
        steps=[(None, _BAD), (0, _GOOD), (1, _BAD)],
    ),
    stat(
        "Delivery errors",
        "Records that Kafka refused or lost, over the time shown; each aborts its transaction "
        "and ends its process, so few are seen here.",
        q("sum(increase(kafka_delivery_errors_total{}[$__range]))"),
        width=6,
        steps=[(None, _GOOD), (0.01, _BAD)],
    ),
    stat(
        "Brokers",
        "Whether the processes reach a broker; the worst of them.",
        q("min(payments_kafka_reachable{})"),
        unit="none",
        width=6,
        steps=[(None, _BAD), (1, _GOOD)],
        mappings=[
            {"type": "value", "options": {"0": {"text": "Away"}, "1": {"text": "Reachable"}}}
        ],
    ),
    stat(
        "Certificate expires in",
        "The first of the certificates that the processes were started with. No data without "
        "TLS, or with the system's authorities.",
        q(
            "min(kafka_certificate_expiry_timestamp_seconds{}"
            " or payments_gateway_certificate_expiry_timestamp_seconds{}) - time()"
        ),
        unit="s",
        width=6,
        steps=[(None, _BAD), (3 * 86400, _WARN), (21 * 86400, _GOOD)],
    ),
)
_row(
    "Engine and recovery",
    curves(
        "Time, by step",
        "Share of a core that each step takes, as Bytewax measures it.",
        *(
            q(f"sum by (step_id) (rate(bytewax_{name}_sum{{}}[$__rate_interval]))", "{{step_id}}")
            for name in (
                "inp_part_next_batch_duration_seconds",
                "flat_map_batch_duration_seconds",
                "stateful_batch_on_batch_duration_seconds",
                "out_part_write_batch_duration_seconds",
            )
        ),
        unit="percentunit",
        stacked=True,
    ),
    curves(
        "Snapshots, by step",
        "Time that each step spends on its snapshot, per second; for the sink, on the commit.",
        q(
            "sum by (step_id) (rate(bytewax_snapshot_duration_seconds_sum{}[$__rate_interval]))",
            "{{step_id}}",
        ),
        unit="percentunit",
    ),
    curves(
        "Age of the last epoch and snapshot",
        "By process: since an epoch was closed, and since the recovery store was written.",
        q("time() - payments_last_epoch_timestamp_seconds{}", "epoch {{instance}}"),
        q("time() - payments_last_snapshot_timestamp_seconds{}", "snapshot {{instance}}"),
        unit="s",
    ),
    curves(
        "Recovery directory",
        "Size of the store (positions only, some megabytes) and of the files of remembered ids; and"
        " the memory of the other ids, which DEDUPE_MEMORY bounds.",
        q("payments_recovery_store_bytes{}", "store {{instance}}"),
        q("payments_remembered_file_bytes{}", "ids in files {{instance}}"),
        q("payments_remembered_memory_bytes{}", "ids in memory {{instance}}"),
        unit="bytes",
    ),
    curves(
        "Recovery volume, free",
        "Free share of the volume of the recovery store. The alert is at 10 %.",
        q(
            "payments_recovery_volume_free_bytes{} / payments_recovery_volume_size_bytes{}",
            "{{instance}}",
        ),
        unit="percentunit",
        max=1,
        steps=[(None, _BAD), (0.1, _GOOD)],
    ),
    curves(
        "Lanes and replayed records",
        "Lanes that are open, and records that were read again after a restart.",
        q("sum(payments_lanes_open{})", "lanes open"),
        q("sum(increase(payments_replayed_records_total{}[$__rate_interval]))", "replayed"),
    ),
)
_row(
    "Process",
    curves(
        "CPU",
        "Cores in use.",
        q("rate(process_cpu_seconds_total{}[$__rate_interval])", "{{instance}}"),
        width=6,
    ),
    curves(
        "Memory",
        "Resident memory.",
        q("process_resident_memory_bytes{}", "{{instance}}"),
        unit="bytes",
        width=6,
    ),
    curves(
        "File descriptors",
        "In use, of those allowed.",
        q("process_open_fds{} / process_max_fds{}", "{{instance}}"),
        unit="percentunit",
        width=6,
    ),
    curves(
        "Starts",
        "Starts of each process in the last half hour. The alert is at three.",
        q("changes(process_start_time_seconds{}[30m])", "{{instance}}"),
        width=6,
        steps=[(None, _GOOD), (3, _BAD)],
    ),
    table(
        "Versions",
        "What each process runs on.",
        q("payments_build_info{}"),
        width=16,
        height=6,
    ),
    stat(
        "Up for",
        "The youngest process.",
        q("time() - max(process_start_time_seconds{})"),
        unit="s",
        height=6,
    ),
    stat(
        "Engine's metrics",
        "Whether Bytewax's own metrics were collected; without them the row above is empty.",
        q("min(payments_engine_metrics_up{})"),
        unit="none",
        height=6,
        mappings=[{"type": "value", "options": {"0": {"text": "Missing"}, "1": {"text": "There"}}}],
    ),
)


# ---- around it ----


def _variables() -> list[dict[str, Any]]:
    def label(name: str, query: str) -> dict[str, Any]:
        return {
            "name": name,
            "label": name.capitalize(),
            "type": "query",
            "datasource": _DATASOURCE,
            "query": query,
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        }

    source = {"name": "datasource", "label": "Data source", "type": "datasource"}
    return [
        source | {"query": "prometheus", "current": {}},
        label("job", "label_values(payments_build_info, job)"),
        label("instance", 'label_values(payments_build_info{job=~"$job"}, instance)'),
    ]


def _annotations() -> list[dict[str, Any]]:
    def events(name: str, expr: str, colour: str, text: str) -> dict[str, Any]:
        return {
            "name": name,
            "datasource": _DATASOURCE,
            "enable": True,
            "expr": expr,
            "iconColor": colour,
            "titleFormat": name,
            "textFormat": text,
        }

    starts = f"changes(process_start_time_seconds{{{_MATCHERS}}}[1m]) > 0"
    alerts = 'ALERTS{alertname=~"Payments.+", alertstate="firing", severity="critical"}'
    return [
        events("Start", starts, _PLAIN, "{{instance}}"),
        events("Alert", alerts, _BAD, "{{alertname}} {{instance}}"),
    ]


def _links() -> list[dict[str, Any]]:
    link = {"type": "link", "targetBlank": True, "includeVars": False, "keepTime": False}
    search = "/alerting/list?search=Payments"
    return [link | {"title": "Alerts", "icon": "bell", "url": search, "tags": []}]


def _placed() -> Iterator[Panel]:
    """Yield each row under the one before, its panels from left to right, 24 columns wide."""
    number = top = 0
    for title, panels in ROWS.items():
        number += 1
        at = {"x": 0, "y": top, "w": 24, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "panels": [],
            "gridPos": at,
        }
        top, left, height = top + 1, 0, 0
        for each in panels:
            number += 1
            size = each["gridPos"]
            if left + size["w"] > at["w"]:
                top, left, height = top + height, 0, 0
            yield {"id": number} | each | {"gridPos": {"x": left, "y": top, **size}}
            left, height = left + size["w"], max(height, size["h"])
        top += height


if __name__ == "__main__":
    json.dump(dashboard(), sys.stdout, indent=2)
    sys.stdout.write("\n")
