"""`payments redrive`: what it lists and sends, and how it exits. Without a cluster."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from dataflow.kafka import preflight
from dataflow.redrive import command, sender
from schemas import pending
from tests.pending_tools.samples import LANE, entry
from tests.redrive.test_selection import AT_S, FINAL, failed
from tests.support.fake_scan import FakeScan
from tests.support.required import REQUIRED

ENVIRON = {
    **REQUIRED,
    "KAFKA_TOPIC_REQUESTED": "requested",
    "KAFKA_TOPIC_PROCESSED": "processed",
    "KAFKA_TOPIC_FAILED": "failed",
    "KAFKA_TOPIC_PENDING": "pending",
}
AT_MS = int(AT_S * 1000)


class FakeProducer:
    """Takes records, up to one that it refuses."""

    def __init__(self, _config: object) -> None:
        self.records: list[dict[str, Any]] = []
        self.refuses: str | None = None
        self._reports: list[Callable[[], None]] = []

    def produce(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
        error = (
            KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED) if self.refuses == "sent" else None
        )
        if self.refuses == "at once":
            raise KafkaException(KafkaError(KafkaError._FATAL))
        self.records.append({"topic": topic, "key": key, "value": value, **more})
        self._reports.append(lambda: more["on_delivery"](error, None))

    def poll(self, _seconds: float) -> int:
        for report in self._reports:
            report()
        self._reports.clear()
        return 0

    def flush(self, _seconds: float) -> int:
        return 3 if self.refuses == "ever" else self.poll(0)


@pytest.fixture
def scan(monkeypatch: pytest.MonkeyPatch) -> FakeScan:
    made = FakeScan()
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(command, "TopicScan", lambda *_: made)
    return made


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    made = FakeProducer({})
    monkeypatch.setattr(sender, "Producer", lambda _config: made)
    return made


def fill(scan: FakeScan, *payment_ids: str) -> None:
    for each in payment_ids:
        scan.put("failed", failed(each), each.encode(), time_ms=AT_MS)


def test_nothing_is_sent_without_the_option(
    scan: FakeScan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sender, "Producer", pytest.fail)
    fill(scan, "pay_1", "pay_2")
    scan.put("failed", failed("pay_3", error=FINAL), b"pay_3", time_ms=AT_MS)
    assert command.main([], ENVIRON) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == [
        *("pay_1", "pay_1~redrive-1", "10.50", "USD", "insufficient_funds"),
        "2026-01-01T00:00:00.000Z",
    ]
    assert "2  to redrive" in out
    assert "21.00" in out
    assert out.endswith("\nNothing was sent: --send sends them.\n")
    assert "user_1" not in out
    assert err == ""


def test_a_new_request_names_its_origin(
    scan: FakeScan, producer: FakeProducer, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(scan, "pay_1", "pay_2", "pay_3")
    assert command.main(["--send", "--rate", "1000", "--limit", "2"], ENVIRON) == 0
    assert [(each["topic"], each["key"]) for each in producer.records] == [
        ("requested", b"pay_1~redrive-1"),
        ("requested", b"pay_2~redrive-1"),
    ]
    assert producer.records[0]["headers"][0] == ("redrive-of", "pay_1")
    out = capsys.readouterr().out
    assert "2 of 2 are sent." in out
    assert "1  left out: beyond --limit" in out


def test_an_outcome_or_an_open_entry_ends_it(scan: FakeScan, producer: FakeProducer) -> None:
    fill(scan, "pay_1", "pay_2", "pay_3")
    scan.put("processed", b"{}", b"pay_1~redrive-1", time_ms=AT_MS + 1)
    waits = entry("pay_2~redrive-1")
    scan.put("pending", pending.encode(waits), waits.event_id.encode(), LANE)
    assert command.main(["--send"], ENVIRON) == 0
    assert [each["key"] for each in producer.records] == [b"pay_3~redrive-1"]
    assert scan.reads == ["pending", "failed", "processed"], "in this order: see `read_plan`"


def test_the_filters_are_read(scan: FakeScan, capsys: pytest.CaptureFixture[str]) -> None:
    fill(scan, "pay_1", "pay_2")
    given = ["--code", "insufficient_funds", "--currency", "USD", "--payment-id", "pay_2"]
    command.main([*given, "--since", "2026-01-01", "--until", "2026-01-02", "--json"], ENVIRON)
    found = json.loads(capsys.readouterr().out)
    assert [each["newPaymentId"] for each in found["redrives"]] == ["pay_2~redrive-1"]
    assert (found["sent"], found["money"]) == (None, {"USD": "10.50"})
    command.main([*given, "--since", "2026-01-01T00:00:01Z", "--json"], ENVIRON)
    assert json.loads(capsys.readouterr().out)["redrives"] == []


@pytest.mark.parametrize(
    ("refuses", "sent", "problem"),
    [
        ("at once", 0, "Fatal"),
        ("sent", 0, "authorization"),
        ("ever", 0, "3 were not acknowledged"),
    ],
)
def test_a_record_that_is_not_taken_is_reported(
    refuses: str,
    sent: int,
    problem: str,
    scan: FakeScan,
    producer: FakeProducer,
    capsys: pytest.CaptureFixture[str],
) -> None:
    producer.refuses = refuses
    fill(scan, "pay_1")
    assert command.main(["--send"], ENVIRON) == 1
    out = capsys.readouterr().out
    assert f"{sent} of 1 are sent." in out
    assert problem.lower() in out.lower()
    assert "Run it again" in out


def test_an_interruption_flushes(
    scan: FakeScan, producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    flushed: list[float] = []

    def flush(seconds: float) -> int:
        flushed.append(seconds)
        return 0

    monkeypatch.setattr(producer, "produce", interrupted)
    monkeypatch.setattr(producer, "flush", flush)
    fill(scan, "pay_1")
    assert command.main(["--send"], ENVIRON) == 130
    assert flushed


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--code", "malformed"], "--code"),
        (["--rate", "0"], "a whole number from 1"),
        (["--since", "yesterday"], "2026-01-31T09:30:00Z"),
        (["--currency", "usd"], "--currency"),
        (["--max-generation", "0"], "--max-generation"),
    ],
)
def test_a_wrong_argument_is_named(
    argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        command.main(argv, ENVIRON)
    assert exited.value.code == 2
    assert problem in capsys.readouterr().err
