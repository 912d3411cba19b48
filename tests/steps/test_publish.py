"""The three branches; and the audit events, as documentation of the contract: every byte.

The events of the processed and of the failed topic are in `tests/schemas/test_events.py`.
"""

import json
import time
from collections.abc import MutableMapping
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from dataflow.core.commit_counts import CommitCounts
from dataflow.core.decision import GatewayDecision, Outcome, Repeated
from dataflow.core.items import (
    ControlMessage,
    LaneProgress,
    OutcomeBatch,
    OutputBatch,
    PendingChange,
    Remembered,
    Signal,
)
from dataflow.core.origins import origin
from dataflow.steps.publish import (
    Audit,
    Branch,
    Failed,
    Pending,
    Processed,
    Progress,
    outcomes_only,
)
from schemas import pending
from schemas.events import Records, Resolution
from schemas.headers import AVRO, JSON, Headers
from schemas.outcomes import ErrorCode, EventType
from schemas.parsing import parse
from schemas.replies import Approved, Declined
from schemas.requests import PaymentRequest, Rejected
from tests import published as contract
from tests.published import examples
from tests.steps.step_samples import MAX_BYTES, READ_AT, rejected, request

INPUT = "payments.payment-requested"
PROCESSED = Processed("processed", MAX_BYTES)
FAILED = Failed("failed", MAX_BYTES)
AUDIT = Audit("audit", MAX_BYTES)
BRANCHES = [PROCESSED, FAILED, AUDIT]

APPROVED = GatewayDecision(request("pay_1"), Approved("ch_1"))
DECLINED = GatewayDecision(
    request("pay_2"), Declined(ErrorCode.CARD_EXPIRED, "The card has expired.", retryable=False)
)
DUPLICATE = Repeated(request("pay_1"), EventType.DUPLICATE, origin(7, 40))
CONFLICT = Repeated(request("pay_1", amount=6), EventType.CONFLICT, origin(7, 40))
INVALID = Rejected(code=ErrorCode.INVALID, message="amount: is required", payment_id="pay_3")
GARBAGE = rejected()
FIELDS = {"paymentId": "pay_1", "userId": "user_1", "paymentMethod": "card"}
ALL: list[Outcome] = [APPROVED, DECLINED, DUPLICATE, CONFLICT, INVALID, GARBAGE]


def decided(*outcomes: Outcome, partition: int = 3, first_offset: int = 42) -> OutcomeBatch:
    offsets = list(range(first_offset, first_offset + len(outcomes)))
    records = Records(INPUT, partition)
    return OutcomeBatch(
        position=(partition, first_offset + len(outcomes)),
        times_ms=np.array(offsets, np.int64) * 10,
        event_ids=[records.event_id(offset) for offset in offsets],
        sources=[records.source(offset) for offset in offsets],
        outcomes=list(outcomes),
        decided_at=READ_AT,
        entries=b"entries",
        remembered=Remembered(ids=7, since_s=5),
    )


def published(branch: Branch, content: OutcomeBatch) -> OutputBatch:
    result = branch(("005", content))
    assert result is not None
    lane, outgoing = result
    assert lane == "005"
    assert outgoing.topic == branch.topic
    for value in outgoing.values:
        contract.assert_valid(contract.OF_TOPIC[branch.topic], value)
    return outgoing


def progressed(content: OutcomeBatch | ControlMessage) -> LaneProgress:
    lane, progress = Progress()(("005", content))
    assert lane == "005"
    return progress


def priced(amount: str, currency: str) -> PaymentRequest:
    found = parse(json.dumps(FIELDS | {"amount": amount, "currency": currency}).encode(), MAX_BYTES)
    assert isinstance(found, PaymentRequest)
    return found


def one_line(text: str) -> bytes:
    """Drop what makes a JSON document readable."""
    return "".join(line.strip() for line in text.splitlines()).encode()


def audited(outcome: Outcome) -> bytes:
    (event,) = published(AUDIT, decided(outcome)).values
    return event


class TestAuditEvents:
    def test_processed(self) -> None:
        assert audited(APPROVED) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.processed",
             "paymentId":"pay_1",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "gatewayReference":"ch_1"}
        """)

    def test_failed_since_it_was_declined(self) -> None:
        assert audited(DECLINED) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":"pay_2",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "error":{"code":"card_expired",
                      "message":"The card has expired.",
                      "retryable":false}}
        """)

    def test_failed_since_it_is_invalid(self) -> None:
        assert audited(INVALID) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":"pay_3",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "error":{"code":"invalid","message":"amount: is required","retryable":false}}
        """)

    def test_failed_since_it_is_unreadable(self) -> None:
        assert audited(GARBAGE) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.failed",
             "paymentId":null,
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "error":{"code":"malformed","message":"the record is not UTF-8","retryable":false}}
        """)

    def test_duplicate(self) -> None:
        assert audited(DUPLICATE) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.duplicate",
             "paymentId":"pay_1",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "firstSource":{"topic":"payments.payment-requested","partition":7,"offset":40}}
        """)

    def test_conflict(self) -> None:
        assert audited(CONFLICT) == one_line("""
            {"eventId":"64746a08-39ac-88b8-83c5-00000000002a",
             "eventType":"payment.conflict",
             "paymentId":"pay_1",
             "source":{"topic":"payments.payment-requested","partition":3,"offset":42},
             "occurredAt":"2026-01-01T00:00:00.500Z",
             "firstSource":{"topic":"payments.payment-requested","partition":7,"offset":40}}
        """)


class TestTopics:
    def test_each_outcome_goes_to_its_topic(self) -> None:
        def written(branch: Branch) -> list[Outcome]:
            events = map(json.loads, published(branch, decided(*ALL)).values)
            return [ALL[event["source"]["offset"] - 42] for event in events]

        assert written(PROCESSED) == [APPROVED]
        assert written(FAILED) == [DECLINED, INVALID, GARBAGE]
        assert written(AUDIT) == ALL

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_a_record_is_keyed_by_its_payment_id(self, branch: Branch) -> None:
        outgoing = published(branch, decided(*ALL))
        assert outgoing.keys == [
            None if (payment_id := json.loads(value)["paymentId"]) is None else payment_id.encode()
            for value in outgoing.values
        ]

    def test_an_outcome_and_its_audit_event_have_one_id_one_type_and_one_instant(self) -> None:
        audit = [json.loads(value) for value in published(AUDIT, decided(*ALL)).values]
        by_id = {event["eventId"]: event for event in audit}
        assert len(by_id) == len(ALL)
        for branch, at in ((PROCESSED, "processedAt"), (FAILED, "failedAt")):
            for value in published(branch, decided(*ALL)).values:
                event = json.loads(value)
                twin = by_id[event["eventId"]]
                for name in ("eventType", "paymentId", "source"):
                    assert event[name] == twin[name]
                assert event[at] == twin["occurredAt"]
                assert event.get("error") == twin.get("error")
                assert event.get("gatewayReference") == twin.get("gatewayReference")

    @pytest.mark.parametrize(
        ("branch", "outcome"),
        [
            *((PROCESSED, outcome) for outcome in (DECLINED, INVALID, DUPLICATE, CONFLICT)),
            *((FAILED, outcome) for outcome in (APPROVED, DUPLICATE, CONFLICT)),
        ],
    )
    def test_a_branch_with_nothing_to_write_writes_nothing(
        self, branch: Branch, outcome: Outcome
    ) -> None:
        assert branch(("005", decided(outcome))) is None

    def test_a_long_record_is_cut_to_the_largest_request(self) -> None:
        short = Failed("failed", 100)
        (value,) = published(short, decided(rejected(b"\xff" * 1000))).values
        event = json.loads(value)
        assert len(event["original"]) == 100
        assert event["originalTruncated"] is True


class TestHeaders:
    def with_headers(self) -> OutcomeBatch:
        """Return a batch of which every second outcome has headers to pass on."""
        batch = decided(*ALL)
        batch.headers = {each: [("traceparent", each.encode())] for each in batch.event_ids[::2]}
        return batch

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_an_event_has_those_of_its_request(self, branch: Branch) -> None:
        batch = self.with_headers()
        outgoing = published(branch, batch)
        event_ids = [json.loads(value)["eventId"] for value in outgoing.values]
        assert outgoing.headers == [batch.headers.get(each, []) for each in event_ids]
        assert any(outgoing.headers)

    @pytest.mark.parametrize("branch", BRANCHES)
    def test_there_are_none_if_no_request_has_any(self, branch: Branch) -> None:
        assert published(branch, decided(*ALL)).headers == []

    @pytest.mark.parametrize("kind", [Processed, Failed, Audit])
    def test_attributes_of_cloud_events_come_before_them(self, kind: type[Branch]) -> None:
        branch = kind(kind.__name__.lower(), MAX_BYTES, content_type=JSON)
        batch = self.with_headers()
        outgoing = published(branch, batch)
        for value, headers in zip(outgoing.values, outgoing.headers, strict=True):
            event = json.loads(value)
            of_request = batch.headers.get(event["eventId"], [])
            assert headers[-1 * len(of_request) :] == of_request or not of_request
            attributes = dict(headers)
            assert attributes["ce_id"] == event["eventId"]
            assert attributes["ce_source"] == f"/{branch.topic}"
            assert attributes["ce_type"] == event["eventType"]
            at = next(
                event[name] for name in ("processedAt", "failedAt", "occurredAt") if name in event
            )
            assert attributes["ce_time"] == at
            assert len(headers) == 6 + len(of_request)

    def test_the_type_of_an_event_is_that_of_its_encoding(self) -> None:
        branch = Audit("audit", MAX_BYTES, lambda _: b"\0\0\0\0\7avro", AVRO)
        _, outgoing = branch(("005", decided(*ALL))) or pytest.fail("nothing is published")
        assert {*outgoing.values} == {b"\0\0\0\0\7avro"}
        assert {dict(headers)["content-type"] for headers in outgoing.headers} == {
            "application/avro"
        }

    def test_an_entry_of_a_parked_payment_has_those_of_its_request(self) -> None:
        entry = pending.decode(examples.pending_entry())
        headers: Headers = [("traceparent", b"x")]
        batch = OutcomeBatch(
            pending=[
                PendingChange("a", entry, headers=headers),
                PendingChange("b", None, headers=headers),
                PendingChange("c", entry),
            ]
        )
        result = Pending("pending")(("005", batch))
        assert result is not None
        assert result[1].keys == [b"a", b"c"]
        assert result[1].headers == [headers, []]


class TestWhatIsCounted:
    """Once for each record."""

    def test_outcomes_are_counted_by_kind_and_failures_by_code(self) -> None:
        batch = decided(*ALL, APPROVED, DECLINED)
        assert progressed(batch).counts == CommitCounts(
            processed=2,
            failed={ErrorCode.CARD_EXPIRED: 2, ErrorCode.INVALID: 1, ErrorCode.MALFORMED: 1},
            duplicates=1,
            conflicts=1,
            approved_amounts={"USD": Decimal(10)},
            declined_amounts={"USD": Decimal(10)},
        )

    def test_money_is_added_up_by_currency_to_the_last_digit(self) -> None:
        """As text, in floats and with exponents; of first requests only, and by their outcome."""
        amounts = [("0.10", "USD"), ("0.20", "USD"), ("1e3", "JPY"), ("999999999999.99", "USD")]
        approved = [GatewayDecision(priced(*amount), Approved("ch_1")) for amount in amounts]
        refused = GatewayDecision(priced("7.5", "KWD"), DECLINED.reply)
        repeated = Repeated(priced("5", "EUR"), EventType.DUPLICATE, origin(7, 40))
        counts = progressed(decided(*approved, refused, repeated, INVALID)).counts
        assert counts.approved_amounts == {
            "USD": Decimal("1000000000000.29"),
            "JPY": Decimal(1000),
        }
        assert counts.declined_amounts == {"KWD": Decimal("7.5")}


class TestProgress:
    """One item for each batch and for each signal, with all that is no event."""

    def test_a_batch_moves_the_position_and_has_the_times(self) -> None:
        progress = progressed(decided(APPROVED, GARBAGE, partition=3, first_offset=42))
        assert progress.position == (3, 44)
        assert progress.times_ms.tolist() == [420, 430]
        assert progress.control is None

    def test_a_batch_carries_the_entries_of_the_lane_log(self) -> None:
        progress = progressed(decided(APPROVED))
        assert (progress.entries, progress.remembered) == (b"entries", Remembered(7, 5))

    @pytest.mark.parametrize("signal", Signal)
    def test_a_signal_reaches_a_lane_once(self, signal: Signal) -> None:
        control = ControlMessage(signal, 3, 7)
        assert outcomes_only(("005", control)) is None, "no other branch gets it"
        progress = progressed(control)
        assert progress.control is control
        assert (progress.counts, progress.entries) == (CommitCounts(), b"")

    def test_a_refresh_of_the_offsets_carries_the_position(self) -> None:
        control = ControlMessage(Signal.REFRESH_OFFSETS, 3, 7, lane=5, remembered=Remembered(9, 6))
        progress = progressed(control)
        assert (progress.position, progress.remembered) == ((3, 7), Remembered(9, 6))

    @pytest.mark.parametrize(
        "signal", [signal for signal in Signal if signal is not Signal.REFRESH_OFFSETS]
    )
    def test_the_other_signals_open_no_transaction(self, signal: Signal) -> None:
        assert progressed(ControlMessage(signal, 3, 7)).position is None


class TestConflictsInTheLog:
    """They are fraud or a bug, so they are never silent; nor do they flood the log."""

    def logged(
        self, monkeypatch: pytest.MonkeyPatch, batches: list[tuple[float, OutcomeBatch]]
    ) -> list[MutableMapping[str, Any]]:
        """Publish each batch at its second; return the lines."""
        progress = Progress()
        with capture_logs() as lines:
            for now_s, batch in batches:
                monkeypatch.setattr(time, "monotonic", lambda now_s=now_s: now_s)
                progress(("005", batch))
        return lines

    def test_a_conflict_is_a_line_that_names_both_records(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (line,) = self.logged(monkeypatch, [(0.0, decided(APPROVED, CONFLICT, DUPLICATE))])
        assert line["log_level"] == "warning"
        assert line["event"] == "conflict: a paymentId came again with other content"
        assert (line["paymentId"], line["partition"], line["offset"]) == ("pay_1", 3, 43)
        assert line["first_seen_at"] == (7, 40)

    def test_there_is_one_a_second_however_many_there_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flood = [
            (now_s, decided(CONFLICT, CONFLICT, first_offset=n))
            for n, now_s in enumerate([10.0, 10.5, 10.9, 11.0, 11.9, 12.5])
        ]
        lines = self.logged(monkeypatch, flood)
        assert [line["offset"] for line in lines] == [0, 3, 5]

    def test_other_outcomes_are_not_logged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.logged(monkeypatch, [(0.0, decided(APPROVED, DUPLICATE, INVALID))]) == []


def test_an_outcome_that_a_person_has_decided_names_the_person_in_its_audit_event() -> None:
    records = Records(INPUT, 3)
    outcomes: list[Outcome] = [
        GatewayDecision(request("pay_1"), Approved("ch_1")),
        GatewayDecision(request("pay_2"), Declined(ErrorCode.DECLINED, "No.", retryable=False)),
        GatewayDecision(request("pay_3"), Approved("ch_3")),
    ]
    batch = OutcomeBatch(
        event_ids=[records.event_id(each) for each in range(3)],
        sources=[records.source(each) for each in range(3)],
        outcomes=outcomes,
        decided_at=READ_AT,
        resolutions={
            records.event_id(each): Resolution("ann", "2026-01-01T00:00:00.000Z", f"ticket {each}")
            for each in (0, 1)
        },
    )
    found = AUDIT(("000", batch))
    assert found is not None
    events = [json.loads(value) for value in found[1].values]
    assert [each.get("resolution", {}).get("reason") for each in events] == [
        "ticket 0",
        "ticket 1",
        None,
    ]
    assert [each["paymentId"] for each in events] == ["pay_1", "pay_2", "pay_3"]
    assert events[0]["gatewayReference"] == "ch_1"
    for branch in (PROCESSED, FAILED):
        published = branch(("000", batch))
        assert published is not None
        assert b"resolution" not in b"".join(published[1].values), "the payer's business is not who"
    for value in found[1].values:
        contract.assert_valid("audit-event", value)


def test_a_decision_that_is_over_is_ended_on_the_pending_topic() -> None:
    found = Pending("pending")(("000", OutcomeBatch(decisions_done=["e-1"])))
    assert found is not None
    assert (found[1].values, found[1].tombstones) == ([], [b"decision/e-1"])
    assert Pending("pending")(("000", OutcomeBatch())) is None
