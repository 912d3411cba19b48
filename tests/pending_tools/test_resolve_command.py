"""`payments resolve`: what it refuses, writes and reports. Without a cluster and a flow."""

import getpass
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from dataflow.errors import ConsumeError
from dataflow.kafka import preflight
from dataflow.pending_tools import carrying_out, resolve_command
from schemas import decisions
from schemas.decisions import PersonsDecision
from schemas.outcomes import ErrorCode
from tests.pending_tools.samples import ENVIRON as PENDING
from tests.pending_tools.samples import LANE, NOW_S, TOPIC, entry, unresolved, write
from tests.support.fake_scan import FakeMessage, FakeScan

ENVIRON = {**PENDING, "KAFKA_TOPIC_AUDIT": "audit"}
AT_MS = int(NOW_S * 1000)
ENTRY = unresolved("pay_1", 7)
WHY = ["--reason", "ticket 7", "--by", "ann"]
PROCESSED = ["pay_1", "--processed", "ch_7", *WHY]
FAILED = ["pay_1", "--failed", "card_expired", *WHY]
AT_ONCE = ["--wait", "0ms"]

FakeFlow = Callable[[PersonsDecision], None]


class Kafka:
    """The producer of the tool, and a flow behind it.

    Attributes:
        flow: Called with each decision that is written.
        error: What the client reports of a record.
        has_offsets: Whether the client reports where a record is.
    """

    def __init__(self, scan: FakeScan) -> None:
        self.scan = scan
        self.flow: FakeFlow = lambda _decision: None
        self.error: KafkaError | None = None
        self.is_away = False
        self.has_offsets = True
        self.written: list[PersonsDecision] = []
        self._reports: list[Callable[[], None]] = []

    def produce(self, topic: str, value: bytes, key: bytes, **more: Any) -> None:
        if self.is_away:
            return
        assert (topic, more["partition"]) == (TOPIC, 0)
        offset = self.scan.put(topic, value, key)
        message = FakeMessage(key, value, None, offset if self.has_offsets else None)
        self._reports.append(lambda: more["on_delivery"](self.error, message))
        if self.error is None:
            self.written.append(decisions.decode(key, value))
            self.flow(self.written[-1])

    def flush(self, _seconds: float) -> int:
        for report in self._reports:
            report()
        return 0

    def audit(self, event_type: str, **more: object) -> None:
        event = {"eventId": ENTRY.event_id, "eventType": event_type, **more}
        self.scan.put("audit", b"not JSON", time_ms=AT_MS)
        self.scan.put("audit", json.dumps(event).encode(), time_ms=AT_MS)

    def end(self, decision: PersonsDecision) -> None:
        self.scan.put(TOPIC, None, decision.key, LANE)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    scan = FakeScan()
    made = Kafka(scan)
    monkeypatch.setattr(preflight, "inspect", lambda _kafka: None)
    monkeypatch.setattr(resolve_command, "TopicScan", lambda *_: scan)
    monkeypatch.setattr(carrying_out, "Producer", lambda _config: made)
    monkeypatch.setattr(time, "time", lambda: NOW_S)
    write(scan, ENTRY)
    return made


def resolve(*argv: str) -> int:
    return resolve_command.main(argv, ENVIRON)


def test_a_decision_is_written_and_carried_out(
    kafka: Kafka, capsys: pytest.CaptureFixture[str]
) -> None:
    def flow(decision: PersonsDecision) -> None:
        kafka.audit("payment.processed", resolution={"by": "ann"}, gatewayReference="ch_7")
        kafka.end(decision)

    kafka.flow = flow
    assert resolve(*PROCESSED) == 0
    [written] = kafka.written
    assert written == PersonsDecision(
        event_id=ENTRY.event_id,
        payment_id="pay_1",
        reference="ch_7",
        by="ann",
        at="2026-01-01T00:00:00.000Z",
        reason="ticket 7",
    )
    assert capsys.readouterr().out.splitlines() == [
        "pay_1, 10.00 USD: processed, with the reference ch_7",
        "Carried out: payment.processed.",
    ]


def test_a_payment_that_failed_has_a_code(kafka: Kafka) -> None:
    kafka.flow = kafka.end
    resolve(*FAILED, "--retryable")
    [written] = kafka.written
    assert (written.reference, written.code) == (None, ErrorCode.CARD_EXPIRED)
    assert written.retryable


def test_the_providers_answer_is_reported(kafka: Kafka, capsys: pytest.CaptureFixture[str]) -> None:
    def flow(decision: PersonsDecision) -> None:
        kafka.audit("payment.failed")
        kafka.end(decision)

    kafka.flow = flow
    assert resolve(*PROCESSED, "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["outcome"]) == ("no_effect", "payment.failed")
    assert found["decision"]["reference"] == "ch_7"


@pytest.mark.parametrize(
    ("argv", "event"),
    [
        (PROCESSED, {"event_type": "payment.processed", "gatewayReference": "ch_8"}),
        (PROCESSED, {"event_type": "payment.failed", "error": {"code": "card_expired"}}),
        (FAILED, {"event_type": "payment.processed", "gatewayReference": "ch_7"}),
        (FAILED, {"event_type": "payment.failed", "error": {"code": "declined"}}),
    ],
)
def test_the_decision_of_another_person_is_not_taken_for_this_one(
    argv: list[str], event: dict[str, Any], kafka: Kafka, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was carried out while this one was on its way."""

    def flow(decision: PersonsDecision) -> None:
        kafka.audit(**event, resolution={"by": "bob"})
        kafka.end(decision)

    kafka.flow = flow
    assert resolve(*argv) == 1
    assert "No effect: bob has decided it before." in capsys.readouterr().out


def test_a_decision_that_is_given_twice_is_carried_out(kafka: Kafka) -> None:
    def flow(decision: PersonsDecision) -> None:
        kafka.audit(
            "payment.failed", resolution={"by": "bob"}, error={"code": ErrorCode.CARD_EXPIRED}
        )
        kafka.end(decision)

    kafka.flow = flow
    assert resolve(*FAILED) == 0


def test_a_decision_without_effect_is_reported(
    kafka: Kafka, capsys: pytest.CaptureFixture[str]
) -> None:
    kafka.flow = kafka.end
    assert resolve(*PROCESSED) == 1
    assert "No effect: the log of the flow has the reason" in capsys.readouterr().out


def test_an_audit_topic_that_may_not_be_read_is_named(
    kafka: Kafka, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision is written, and has ended: only what became of it is not known."""
    bounds_now = kafka.scan.bounds_now

    def may_read(topic: str, since_ms: int | None = None) -> object:
        if topic == "audit":
            raise ConsumeError("cannot read audit[0]")
        return bounds_now(topic, since_ms)

    monkeypatch.setattr(kafka.scan, "bounds_now", may_read)
    kafka.flow = kafka.end
    assert resolve(*PROCESSED) == 1
    assert "The flow has ended the decision" in capsys.readouterr().out
    assert len(kafka.written) == 1


def test_a_flow_that_is_stopped_has_the_decision_later(
    kafka: Kafka, capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolve(*PROCESSED, *AT_ONCE) == 3
    assert len(kafka.written) == 1
    assert "nothing is to be repeated" in capsys.readouterr().out


def test_only_a_lane_ends_a_decision(kafka: Kafka) -> None:
    def flow(decision: PersonsDecision) -> None:
        kafka.scan.put(TOPIC, None, decision.key)

    kafka.flow = flow
    assert resolve(*PROCESSED, "--wait", "300ms") == 3


def test_the_end_of_an_earlier_decision_is_not_taken_for_that_of_this_one(kafka: Kafka) -> None:
    """Also if the client cannot say where this one is, as the broker got it twice."""
    resolve(*FAILED, *AT_ONCE)
    kafka.end(kafka.written[0])
    kafka.has_offsets = False
    assert resolve(*PROCESSED, "--wait", "300ms") == 3


def test_an_earlier_decision_that_ends_meanwhile_is_not_taken_for_this_one(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(*FAILED, *AT_ONCE)
    [earlier] = kafka.written
    bounds_now = kafka.scan.bounds_now

    def ends_then(topic: str, since_ms: int | None = None) -> object:
        bounds = bounds_now(topic, since_ms)
        if topic == TOPIC:
            kafka.end(earlier)
        return bounds

    monkeypatch.setattr(kafka.scan, "bounds_now", ends_then)
    assert resolve(*PROCESSED, "--wait", "300ms") == 3


@pytest.mark.parametrize(
    ("state", "argv", "problem"),
    [
        (None, PROCESSED, "payment pay_1 does not wait for the gateway"),
        ("pending", PROCESSED, "payment pay_1 is not unresolved: it is asked for in 1m 30s"),
    ],
)
def test_a_payment_that_needs_no_person_is_refused(
    state: str | None,
    argv: list[str],
    problem: str,
    kafka: Kafka,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if state is None:
        kafka.scan.put(TOPIC, None, ENTRY.event_id.encode(), LANE)
    else:
        write(kafka.scan, entry("pay_1", offset=7))
    assert resolve(*argv) == 1
    assert problem in capsys.readouterr().err
    assert kafka.written == []


def test_force_decides_a_payment_that_is_not_unresolved(kafka: Kafka) -> None:
    write(kafka.scan, entry("pay_1", offset=7))
    assert resolve(*PROCESSED, "--force", *AT_ONCE) == 3
    assert kafka.written[0].force


@pytest.mark.parametrize("is_away", [True, False])
def test_a_record_that_is_not_taken_is_an_error(
    kafka: Kafka, capsys: pytest.CaptureFixture[str], *, is_away: bool
) -> None:
    kafka.is_away = is_away
    kafka.error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert resolve(*PROCESSED) == 2
    assert "the decision could not be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["pay_1", *WHY], "one of the arguments --processed --failed is required"),
        ([*PROCESSED, "--failed", "declined"], "not allowed with argument --processed"),
        (["pay_1", "--processed", "ch_7", "--by", "ann"], "--reason"),
        ([*PROCESSED, "--retryable"], "--retryable: only with --failed"),
        (["pay_1", "--failed", "malformed", *WHY], "expected one of authentication_required"),
        (["pay_1", "--processed", "", *WHY], "expected 1 to 255 printable characters"),
        (["pay_1", "--processed", "a\nb", *WHY], "expected 1 to 255 printable characters"),
        ([*PROCESSED, "--reason", "card 4111 1111 1111 1111"], "it has a card number"),
        ([*PROCESSED, "--by", "x" * 101], "expected 1 to 100 printable characters"),
    ],
)
def test_a_wrong_argument_is_named(
    argv: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        resolve(*argv)
    assert exited.value.code == 2
    err = capsys.readouterr().err
    assert problem in err
    assert "4111 1111" not in err


def test_the_user_is_who_decides_by_default(monkeypatch: pytest.MonkeyPatch, kafka: Kafka) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "bob")
    resolve("pay_1", "--processed", "ch_7", "--reason", "ticket 7", *AT_ONCE)
    assert kafka.written[0].by == "bob"

    def fail() -> str:
        raise KeyError

    monkeypatch.setattr(getpass, "getuser", fail)
    with pytest.raises(SystemExit):
        resolve("pay_1", "--processed", "ch_7", "--reason", "ticket 7")
