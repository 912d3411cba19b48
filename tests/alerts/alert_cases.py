"""The conditions that must raise each alert, and those that look like them and must not.

Series are written as promtool reads them: `0+60x10` starts at 0 and grows by 60, ten more times;
`1x5` is six times 1. There is a sample for each minute, or for each `step_min`.
"""

from dataclasses import dataclass, field

PROCESS = 'job="payments-service",instance="pod-0"'
OTHER = 'job="payments-service",instance="pod-1"'
JOB = {"job": "payments-service"}
INSTANCE = {**JOB, "instance": "pod-0"}
DAY = 24 * 60


def series(name: str, values: str, labels: str = "", process: str = PROCESS) -> dict[str, str]:
    """Return one input series."""
    return {"series": f"{name}{{{','.join(filter(None, [process, labels]))}}}", "values": values}


@dataclass
class Case:
    """A course of events; `summary` is the alert's text then, empty if it must be silent."""

    alert: str
    name: str
    input: list[dict[str, str]]
    at: str
    summary: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    """Those of the alert, its severity included."""
    also: dict[str, dict[str, str]] = field(default_factory=dict)
    """The alerts that fire by the same name as well: summary to labels."""
    step_min: int = 1


def lag(values: str, seconds: str = "", process: str = PROCESS) -> list[dict[str, str]]:
    """Return the lag of one partition, in records and in seconds."""
    where = 'topic="requested",partition="0"'
    found = [series("kafka_consumer_lag", values, where, process)]
    return found + ([series("kafka_consumer_lag_seconds", seconds, where)] if seconds else [])


def outcomes(
    processed: str = "0x600",
    failed: str = "0x600",
    duplicates: str = "0x600",
    conflicts: str = "0x600",
) -> list[dict[str, str]]:
    return [
        series("payments_processed_total", processed),
        series("payments_failed_total", failed),
        series("payments_duplicates_total", duplicates),
        series("payments_conflicts_total", conflicts),
    ]


def build(gateway: str, environment: str) -> dict[str, str]:
    labels = f'gateway="{gateway}",environment="{environment}"'
    return series("payments_build_info", "1x10", labels)


def held(cause: str, values: str) -> dict[str, str]:
    """Return the hold of a process, by its cause."""
    return series("payments_gateway_held", values, f'cause="{cause}"')


def answered(values: str) -> list[dict[str, str]]:
    """Return the answers that decide a payment."""
    return [
        series("payments_gateway_replies_total", values, 'reply="Approved"'),
        series("payments_gateway_replies_total", "0x600", 'reply="Declined"'),
    ]


def declines(
    before: tuple[int, int], after: tuple[int, int], since: int, until: int
) -> list[dict[str, str]]:
    """Return the declined and all payments of each step, before and after step `since`.

    There are as many invalid requests as payments, which the gateway does not see.
    """

    def grows(step: int, later: int) -> str:
        return f"0+{step}x{since} {step * since + later}+{later}x{until - since}"

    return [
        series("payments_processed_total", grows(before[1] - before[0], after[1] - after[0])),
        series(
            "payments_failed_by_code_total",
            grows(before[0], after[0]),
            'code="insufficient_funds"',
        ),
        series("payments_failed_by_code_total", f"0x{until}", 'code="declined"'),
        series("payments_failed_by_code_total", grows(before[1], after[1]), 'code="invalid"'),
    ]


def visible(good: str, all_of_them: str) -> list[dict[str, str]]:
    """Return outcomes that were on time, and all."""
    return [
        series("payment_visible_duration_seconds_bucket", good, 'le="5.0"'),
        series("payment_visible_duration_seconds_count", all_of_them),
    ]


def late(percent: float, since: int, until: int) -> list[dict[str, str]]:
    """Return 100,000 outcomes a step: none late before step `since`, then so many percent."""
    on_time = round(100_000 - percent * 1000)
    after = f"{100_000 * since + on_time}+{on_time}x{until - since}"
    return visible(f"0+100000x{since} {after}", f"0+100000x{until + 1}")


def burn(window: str, severity: str) -> dict[str, str]:
    return JOB | {"severity": severity, "window": window}


STORE_FREE, STORE_SIZE = (
    "payments_recovery_volume_free_bytes",
    "payments_recovery_volume_size_bytes",
)
EXPIRY = "kafka_certificate_expiry_timestamp_seconds"
GATEWAY_EXPIRY = "payments_gateway_certificate_expiry_timestamp_seconds"
CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}

CASES = [
    # ---- payments do not flow ----
    Case(
        "PaymentsStalled",
        "work waits and nothing is done",
        [*lag("100x20"), series("payments_audited_total", "500x20")],
        "8m",
        "pod-0 has requests waiting, but decides none",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsStalled",
        "the process says that it is stuck",
        [series("payments_live", "1 1 0x10")],
        "6m",
        "pod-0 has requests waiting, but decides none",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsStalled",
        "there is nothing to do",
        [*lag("0x20"), series("payments_audited_total", "500x20"), series("payments_live", "1x20")],
        "15m",
    ),
    Case(
        "PaymentsStalled",
        "it has much to do, and does it",
        [*lag("9000x20"), series("payments_audited_total", "0+60x20")],
        "15m",
    ),
    Case(
        "PaymentsStalled",
        "another process does the work of its own partition",
        [
            *lag("0x20"),
            *lag("50x20", process=OTHER),
            series("payments_audited_total", "500x20"),
            series("payments_audited_total", "0+60x20", process=OTHER),
        ],
        "15m",
    ),
    Case(
        "PaymentsStalled",
        "it holds because the gateway is away, and other alerts have the cause",
        [*lag("100x20"), series("payments_audited_total", "500x20"), held("outage", "1x20")],
        "15m",
    ),
    Case(
        "PaymentsNotReady",
        "it does not get ready",
        [series("payments_ready", "0x20")],
        "11m",
        "pod-0 has not been ready for 10 minutes",
        INSTANCE | WARNING,
    ),
    Case(
        "PaymentsNotReady", "a start takes a while", [series("payments_ready", "0x8 1x20")], "11m"
    ),
    Case(
        "PaymentsTargetMissing",
        "one process cannot be scraped",
        [series("up", "0x10"), series("up", "1x10", process=OTHER)],
        "4m",
        "no metrics from pod-0",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsTargetMissing",
        "there is none at all",
        [series("up", "1x10", process='job="something-else"')],
        "4m",
        "no metrics from any process",
        JOB | CRITICAL,
    ),
    Case(
        "PaymentsTargetMissing",
        "a scrape fails now and then",
        [series("up", "1 0 1 0 1 0 1")],
        "5m",
    ),
    Case(
        "PaymentsCrashLooping",
        "it starts again and again",
        [series("process_start_time_seconds", "0 60 120 180 180 180")],
        "5m",
        "pod-0 has started 3 times in 30 minutes",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsCrashLooping",
        "a deployment, and a crash after it",
        [series("process_start_time_seconds", "0 60 60 60 240 240")],
        "5m",
    ),
    Case(
        "PaymentsLagGrowing",
        "more comes in than goes out",
        lag("0+1000x60", "0+10x60"),
        "40m",
        "the backlog grows; its oldest request has waited 6m 40s",
        JOB | WARNING,
    ),
    Case("PaymentsLagGrowing", "it catches up", lag("60000-1000x60", "600-10x60"), "40m"),
    Case("PaymentsLagGrowing", "more work, done in time", lag("0+1000x60", "1x60"), "40m"),
    Case(
        "PaymentsLagOld",
        "a request waits for long",
        lag("10x30", "0+60x30"),
        "12m",
        "a request has been waiting for 12m 0s",
        JOB | CRITICAL,
    ),
    Case("PaymentsLagOld", "a backlog is worked off", lag("9000x30", "290x30"), "25m"),
    # ---- what becomes of them ----
    Case(
        "PaymentsFailureRatio",
        "one in five fails",
        outcomes(processed="0+80x30", failed="0+20x30"),
        "20m",
        "20% of the payments fail",
        JOB | WARNING,
    ),
    Case("PaymentsFailureRatio", "the usual declines", outcomes("0+95x30", "0+5x30"), "20m"),
    Case("PaymentsFailureRatio", "a handful", outcomes("0+1x30", "0+1x30"), "20m"),
    Case(
        "PaymentsConflicts",
        "a single one",
        [*outcomes(conflicts="0x5 1x30")],
        "8m",
        "a paymentId came again with other content",
        JOB | WARNING,
    ),
    Case("PaymentsConflicts", "long ago", outcomes(conflicts="0x5 1x60"), "40m"),
    Case("PaymentsConflicts", "only duplicates", outcomes(duplicates="0+9x30"), "20m"),
    Case(
        "PaymentsConflictSpike",
        "one in twenty",
        [*outcomes(conflicts="0+5x30"), series("payments_audited_total", "0+100x30")],
        "20m",
        "5% of the requests contradict an earlier one",
        JOB | CRITICAL,
    ),
    Case(
        "PaymentsConflictSpike",
        "few of many",
        [*outcomes(conflicts="0+5x30"), series("payments_audited_total", "0+10000x30")],
        "20m",
    ),
    Case(
        "PaymentsConflictSpike",
        "few at all",
        [*outcomes(conflicts="0+1x30"), series("payments_audited_total", "0+2x30")],
        "20m",
    ),
    Case(
        "PaymentsGatewaySimulated",
        "in production",
        [build("simulated", "production")],
        "1m",
        "pod-0 approves payments in production without charging them",
        INSTANCE | CRITICAL | {"gateway": "simulated", "environment": "production"},
    ),
    *(
        Case(
            "PaymentsGatewaySimulated",
            f"in production, as {environment}",
            [build("simulated", environment)],
            "1m",
            "pod-0 approves payments in production without charging them",
            INSTANCE | CRITICAL | {"gateway": "simulated", "environment": environment},
        )
        for environment in ("prod", "Production", "eu-prod", "prod.eu-1", "live")
    ),
    *(
        Case("PaymentsGatewaySimulated", f"in {elsewhere}", [build("simulated", elsewhere)], "5m")
        for elsewhere in ("demo", "staging", "pre-prod", "non-production", "productivity")
    ),
    Case("PaymentsGatewaySimulated", "a real one", [build("http", "production")], "5m"),
    Case(
        "PaymentsDuplicateSpike",
        "every other request",
        [*outcomes(duplicates="0+50x30"), series("payments_audited_total", "0+100x30")],
        "20m",
        "50% of the requests are repeats",
        JOB | WARNING,
    ),
    Case(
        "PaymentsDuplicateSpike",
        "the usual retries",
        [*outcomes(duplicates="0+50x30"), series("payments_audited_total", "0+1000x30")],
        "20m",
    ),
    Case(
        "PaymentsDuplicateSpike",
        "few at all",
        [*outcomes(duplicates="0+1x30"), series("payments_audited_total", "0+1x30")],
        "20m",
    ),
    Case(
        "PaymentsAuditParityBroken",
        "one audit event is missing",
        [
            *outcomes("0+7x9", "0+1x9", "0+1x9", "0+1x9"),
            series("payments_audited_total", "0 9 19 29"),
        ],
        "1m",
        "pod-0: the numbers of outcomes and audit events differ",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsAuditParityBroken",
        "each has one, a restart in between",
        [
            *outcomes("0 7 0 7", "0 1 0 1", "0 1 0 1", "0 1 0 1"),
            series("payments_audited_total", "0 10 0 10"),
        ],
        "3m",
    ),
    # ---- the payment gateway ----
    Case(
        "PaymentsGatewayDown",
        "an outage",
        [held("outage", "0x3 1x10")],
        "8m",
        "the payment gateway answers nobody: payments wait",
        JOB | CRITICAL,
    ),
    Case(
        "PaymentsGatewayDown",
        "an outage in which the process starts again",
        [held("outage", "0x3 1x3 stale 0 1x10")],
        "10m",
        "the payment gateway answers nobody: payments wait",
        JOB | CRITICAL,
    ),
    Case(
        "PaymentsGatewayDown",
        "an outage at night: too few payments to open the breaker",
        [series("payments_parked_total", "0x5 1 1 2 3x20"), *answered("70x30")],
        "12m",
        "the payment gateway answers nobody: payments wait",
        JOB | CRITICAL,
    ),
    Case("PaymentsGatewayDown", "away for a moment", [held("outage", "0x5 1 0x10")], "9m"),
    Case("PaymentsGatewayDown", "it is back", [held("outage", "1x10 0x10")], "14m"),
    Case(
        "PaymentsGatewayDown",
        "one payment at night is never answered",
        [series("payments_parked_total", "0x5 1x20"), *answered("70x30")],
        "15m",
    ),
    Case(
        "PaymentsGatewayDown",
        "some payments are parked, the others are answered",
        [series("payments_parked_total", "0+1x30"), *answered("0+60x30")],
        "20m",
    ),
    Case(
        "PaymentsGatewayDown",
        "wrong credentials: another alert has the cause",
        [
            held("misconfigured", "0x3 1x20"),
            series("payments_parked_total", "0x5 40x20"),
            *answered("70x30"),
        ],
        "15m",
    ),
    Case(
        "PaymentsGatewayFlapping",
        "away once a minute",
        [series("payments_gateway_holds_total", "0+1x50")],
        "40m",
        "the payment gateway has been away 30 times in 30 minutes",
        JOB | WARNING,
    ),
    Case(
        "PaymentsGatewayFlapping",
        "one outage",
        [series("payments_gateway_holds_total", "0x5 1x50")],
        "20m",
    ),
    Case(
        "PaymentsGatewayMisconfigured",
        "the credentials are refused",
        [held("misconfigured", "0x3 1x10")],
        "8m",
        "the payment gateway refuses our credentials or URL: payments wait",
        JOB | CRITICAL,
    ),
    Case(
        "PaymentsGatewayMisconfigured",
        "started again with the right ones",
        [held("misconfigured", "0 1 1 stale 0x10")],
        "6m",
    ),
    Case("PaymentsGatewayMisconfigured", "an outage", [held("outage", "1x10")], "8m"),
    Case(
        "PaymentsPendingGrowing",
        "ten a minute",
        [series("payments_pending", "0+10x60")],
        "40m",
        "more and more payments get no answer of the gateway: 400 are pending",
        JOB | WARNING,
    ),
    Case(
        "PaymentsPendingGrowing",
        "parked at once, and answered one after the other",
        [series("payments_pending", "0x5 400x1 220x5 160x10 130x60")],
        "30m",
    ),
    Case(
        "PaymentsPendingGrowing",
        "an outage: what was under way, and the trials",
        [held("outage", "0x5 1x60"), series("payments_pending", "0x5 300+1x60")],
        "45m",
    ),
    Case("PaymentsPendingGrowing", "few", [series("payments_pending", "0+1x60")], "40m"),
    Case(
        "PaymentsPendingFull",
        "near the limit",
        [
            series("payments_pending", "17000x20"),
            series("payments_unresolved", "500x20"),
            series("payments_pending_max", "20000x20"),
        ],
        "10m",
        "pod-0 has 82.5% of GATEWAY_PARKED_MAX pending",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsPendingFull",
        "most of them wait for a person, and count for no limit",
        [
            series("payments_pending", "17000x20"),
            series("payments_unresolved", "9000x20"),
            series("payments_pending_max", "20000x20"),
        ],
        "10m",
    ),
    Case(
        "PaymentsPendingOld",
        "one is never answered",
        [series("payments_pending_oldest_seconds", "0+60x500")],
        "400m",
        "a payment has been pending for 6h 40m 0s",
        JOB | WARNING,
    ),
    Case(
        "PaymentsPendingOld",
        "each is answered within hours",
        [series("payments_pending_oldest_seconds", "0+60x200 0+60x200 0+60x200")],
        "500m",
    ),
    Case(
        "PaymentsPendingOld",
        "it waits for a person: another alert has that",
        [
            series("payments_pending_oldest_seconds", "0+60x500"),
            series("payments_unresolved", "0x300 1x200"),
        ],
        "400m",
    ),
    Case(
        "PaymentsPendingOld",
        "an outage of a day",
        [held("outage", "1x500"), series("payments_pending_oldest_seconds", "0+60x500")],
        "450m",
    ),
    Case(
        "PaymentsUnresolved",
        "two of them",
        [series("payments_unresolved", "0x5 2x20")],
        "15m",
        "2 payments wait for a person: it is unknown whether they were charged",
        JOB | WARNING,
    ),
    Case(
        "PaymentsUnresolved",
        "decided by a person",
        [series("payments_unresolved", "2x5 0x20")],
        "8m",
    ),
    Case(
        "PaymentsDeclineRatio",
        "from one in thirty to one in six",
        declines((33, 1000), (150, 1000), 300, 330),
        f"{25 * 60 + 40}m",
        "the gateway declines 15% of the payments, more than twice what is usual",
        JOB | WARNING,
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "high, as always",
        declines((150, 1000), (150, 1000), 300, 330),
        f"{25 * 60 + 40}m",
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "somewhat more, where many are declined",
        declines((150, 1000), (220, 1000), 300, 330),
        f"{25 * 60 + 40}m",
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "more than twice, and still rare",
        declines((10, 1000), (40, 1000), 300, 330),
        f"{25 * 60 + 40}m",
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "a handful now",
        declines((0, 20), (5, 20), 300, 330),
        f"{25 * 60 + 40}m",
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "a handful before: nothing is usual yet",
        declines((0, 2), (150, 1000), 300, 330),
        f"{25 * 60 + 40}m",
        step_min=5,
    ),
    Case(
        "PaymentsDeclineRatio",
        "a new flow: nothing is usual yet",
        declines((0, 1000), (150, 1000), 1, 30),
        "55m",
        step_min=5,
    ),
    # ---- Kafka ----
    Case(
        "PaymentsKafkaUnreachable",
        "no broker answers",
        [series("payments_kafka_reachable", "1 0x10")],
        "4m",
        "pod-0 cannot reach a broker",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsKafkaUnreachable",
        "a transaction is lost with it: the process ends, and its next run waits",
        [series("payments_kafka_reachable", "1 0 0 stale 0x10")],
        "4m",
        "pod-0 cannot reach a broker",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsKafkaUnreachable",
        "it is not there at the first start",
        [series("payments_kafka_reachable", "_ 0x10")],
        "4m",
        "pod-0 cannot reach a broker",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsKafkaUnreachable",
        "starts: 0 until a broker has answered",
        [series("payments_kafka_reachable", "1 stale 0 1 stale 0 1x10")],
        "5m",
    ),
    Case(
        "PaymentsKafkaUnreachable",
        "a broker restarts",
        [series("payments_kafka_reachable", "1 0 0 1x10")],
        "4m",
    ),
    Case(
        "PaymentsDeliveryErrors",
        "seen in one scrape, then the process was new",
        [series("kafka_delivery_errors_total", "0 1 0x20")],
        "8m",
        "Kafka refused a record of pod-0; the transaction was aborted",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsDeliveryErrors",
        "long ago",
        [series("kafka_delivery_errors_total", "0 1 0x30")],
        "20m",
    ),
    Case(
        "PaymentsCommitFailing",
        "each run decides, none commits",
        [
            series("payment_processing_duration_seconds_count", "0 50 50 0 50 50 0 50 50 0 50 50"),
            series("payments_audited_total", "0x20"),
        ],
        "9m",
        "pod-0 decides payments but commits none",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsCommitFailing",
        "it commits",
        [
            series("payment_processing_duration_seconds_count", "0+50x20"),
            series("payments_audited_total", "0+50x20"),
        ],
        "9m",
    ),
    Case(
        "PaymentsCommitFailing",
        "nothing comes",
        [
            series("payment_processing_duration_seconds_count", "70x20"),
            series("payments_audited_total", "70x20"),
        ],
        "9m",
    ),
    Case(
        "PaymentsCommitSlow",
        "one in ten takes long",
        [
            series("kafka_commit_duration_seconds_bucket", "0+90x30", 'le="5.0"'),
            series("kafka_commit_duration_seconds_bucket", "0+100x30", 'le="15.0"'),
            series("kafka_commit_duration_seconds_bucket", "0+100x30", 'le="+Inf"'),
        ],
        "20m",
        "one commit in a hundred takes 14s or more",
        JOB | WARNING,
    ),
    Case(
        "PaymentsCommitSlow",
        "one in a thousand does",
        [
            series("kafka_commit_duration_seconds_bucket", "0+999x30", 'le="5.0"'),
            series("kafka_commit_duration_seconds_bucket", "0+1000x30", 'le="+Inf"'),
        ],
        "20m",
    ),
    Case(
        "PaymentsCertificateExpiring",
        "in two weeks",
        [series(EXPIRY, f"{14 * 86400 + 1200}x30", 'certificate="ca"')],
        "20m",
        "the ca certificate in use expires in 14d 0h 0m 0s",
        INSTANCE | WARNING | {"certificate": "ca"},
    ),
    Case(
        "PaymentsCertificateExpiresSoon",
        "tomorrow",
        [series(EXPIRY, f"{86400 + 1200}x30", 'certificate="client"')],
        "20m",
        "the client certificate in use expires in 1d 0h 0m 0s",
        INSTANCE | CRITICAL | {"certificate": "client"},
    ),
    Case(
        "PaymentsCertificateExpiresSoon",
        "tomorrow, the one for the provider, beside one for Kafka that lasts",
        [
            series(EXPIRY, f"{90 * 86400}x30", 'certificate="client"'),
            series(GATEWAY_EXPIRY, f"{86400 + 1200}x30", 'certificate="gateway-client"'),
        ],
        "20m",
        "the gateway-client certificate in use expires in 1d 0h 0m 0s",
        INSTANCE | CRITICAL | {"certificate": "gateway-client"},
    ),
    Case(
        "PaymentsCertificateExpiresSoon",
        "in two weeks",
        [series(EXPIRY, f"{14 * 86400}x30", 'certificate="ca"')],
        "20m",
    ),
    Case(
        "PaymentsCertificateExpiring",
        "next month",
        [series(EXPIRY, f"{31 * 86400}x30", 'certificate="ca"')],
        "20m",
    ),
    Case(
        "PaymentsChangedSecretsRefused",
        "a wrong password",
        [series("payments_changed_secrets_refused", "0x5 1x30")],
        "20m",
        "pod-0 cannot use a secret that has changed, and could not start again",
        INSTANCE | WARNING,
    ),
    Case(
        "PaymentsChangedSecretsRefused",
        "a password that Kafka has some minutes later",
        [series("payments_changed_secrets_refused", "0x5 1x7 0x30")],
        "20m",
    ),
    # ---- recovery ----
    Case(
        "PaymentsSnapshotStale",
        "none was stored since",
        [series("payments_last_snapshot_timestamp_seconds", "0 60x20")],
        "10m",
        "pod-0 stored its last snapshot 9m 0s ago",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsSnapshotStale",
        "one with every epoch",
        [series("payments_last_snapshot_timestamp_seconds", "0+60x20")],
        "10m",
    ),
    Case(
        "PaymentsRecoveryVolumeFilling",
        "at this pace it lasts for a day",
        [series(STORE_FREE, f"{10**9}-{250_000}x{8 * 60}"), series(STORE_SIZE, f"{4 * 10**9}x500")],
        "420m",
        "the recovery volume of pod-0 will be full within four days",
        INSTANCE | WARNING,
    ),
    Case(
        "PaymentsRecoveryVolumeFull",
        "it is nearly full",
        [series(STORE_FREE, "5x30"), series(STORE_SIZE, "100x30")],
        "10m",
        "the recovery volume of pod-0 has 5% left",
        INSTANCE | CRITICAL,
    ),
    Case(
        "PaymentsRecoveryVolumeFilling",
        "the first days on a new volume",
        [series(STORE_FREE, f"{10**9}-{250_000}x500"), series(STORE_SIZE, f"{10**9 + 10**6}x500")],
        "420m",
    ),
    Case(
        "PaymentsRecoveryVolumeFull",
        "there is room",
        [series(STORE_FREE, "11x30"), series(STORE_SIZE, "100x30")],
        "10m",
    ),
    Case(
        "PaymentsRecoveryVolumeFilling",
        "it comes and goes",
        [series(STORE_FREE, "40 30 " * 240), series(STORE_SIZE, "100x500")],
        "420m",
    ),
    Case(
        "PaymentsIdFilesFailing",
        "the volume is read-only",
        [series("payments_remembered_files_failing", "0x5 1x30")],
        "20m",
        "pod-0 cannot write its files of remembered ids: its memory grows",
        INSTANCE | WARNING,
    ),
    Case(
        "PaymentsIdFilesFailing",
        "it was full for a moment",
        [series("payments_remembered_files_failing", "0x5 1x5 0x30")],
        "20m",
    ),
    # ---- the objective: 1000 outcomes a minute ----
    Case(
        "PaymentsBudgetBurn",
        "very many are late for an hour",
        late(2, 12 * 60, 14 * 60),
        f"{13 * 60 + 5}m",
        "2% of the outcomes of the last hour were late",
        burn("1h", "critical"),
    ),
    Case(
        "PaymentsBudgetBurn",
        "many are late for hours",
        late(0.7, DAY // 10 * 3, DAY // 10 * 4),
        f"{3 * DAY + 400}m",
        "0.7% of the outcomes of the last 6 hours were late",
        burn("6h", "critical"),
        step_min=10,
    ),
    Case(
        "PaymentsBudgetBurn",
        "too many are late for a day",
        late(0.4, 0, DAY // 20 * 2),
        f"{DAY + 120}m",
        "0.4% of the outcomes of the last day were late",
        burn("1d", "warning"),
        also={"0.4% of the outcomes of the last 3 days were late": burn("3d", "warning")},
        step_min=20,
    ),
    Case(
        "PaymentsBudgetBurn",
        "a few too many are late for days",
        late(0.2, 0, DAY // 20 * 4),
        f"{4 * DAY}m",
        "0.2% of the outcomes of the last 3 days were late",
        burn("3d", "warning"),
        step_min=20,
    ),
    Case(
        "PaymentsBudgetBurn",
        "fewer are late than allowed",
        late(0.05, 0, DAY // 20 * 4),
        f"{4 * DAY}m",
        step_min=20,
    ),
    Case(
        "PaymentsBudgetBurn",
        "a short outage, over by now",
        visible("0+1000x1000 1000000+0x5 1005000+1000x80", "0+1000x1090"),
        "1050m",
    ),
    Case("PaymentsBudgetBurn", "nothing comes", visible("0x100", "0x100"), "90m"),
]
