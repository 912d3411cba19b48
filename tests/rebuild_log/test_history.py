"""The ids of a lost log, found again in what was published."""

import json
from typing import Any

import numpy as np
import pytest
from msgspec import Raw

from dataflow.core.lane_log import Entries
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origin
from dataflow.rebuild_log.history import Found, History
from schemas.events import Source
from schemas.parsing import parse
from schemas.pending import PendingEntry
from schemas.requests import PaymentRequest

GENERATION = 7
AT_S = 1_769_851_800
AT = "2026-01-31T09:30:00.000Z"
LATER = "2026-02-01T09:30:00.000Z"
A_DAY_S = 24 * 3600


def event(payment_id: str, offset: int = 0, **fields: Any) -> bytes:
    found = {
        "eventId": "any",
        "eventType": "payment.processed",
        "paymentId": payment_id,
        "userId": "user",
        "amount": 10.5,
        "currency": "USD",
        "paymentMethod": "card",
        "source": {"topic": "requests", "partition": 2, "offset": offset},
    }
    return json.dumps(found | {"processedAt": AT} | fields).encode()


def failed(payment_id: str, code: str) -> bytes:
    error = {"code": code, "message": "", "retryable": False}
    return event(payment_id, eventType="payment.failed", failedAt=AT, error=error)


def repeat(payment_id: str, kind: str = "duplicate", at: str = LATER) -> bytes:
    first = {"topic": "requests", "partition": 2, "offset": 5}
    return event(payment_id, 9, eventType=f"payment.{kind}", occurredAt=at, firstSource=first)


def request(payment_id: str, amount: str = "10.5") -> PaymentRequest:
    fields = {"paymentId": payment_id, "userId": "user", "amount": amount}
    text = json.dumps(fields | {"currency": "USD", "paymentMethod": "card"})
    found = parse(text.encode(), 1_000)
    assert isinstance(found, PaymentRequest)
    return found


def found(
    outcomes: list[bytes] | None = None,
    audit: list[bytes] | None = None,
    waiting: list[PendingEntry] | None = None,
) -> Found:
    history = History("requests", GENERATION)
    history.take_pending(waiting or [], AT_S + 0.5)
    history.take_outcomes(outcomes or [])
    history.take_audit(audit or [])
    return history.found()


def of(entries: Entries, payment_id: str) -> dict[str, int] | None:
    """Return what an id is remembered with; None if it is not."""
    keys, prints = split_identities(request(payment_id).identity())
    for entry in entries:
        if (entry["key"] == keys[0]).all():
            same = entry["fingerprint"] == prints[0]
            return {"origin": entry["origin"], "date_s": entry["date_s"], "same": same}
    return None


def test_an_outcome_is_a_claim_with_content_and_record() -> None:
    declined = failed("pay-2", "insufficient_funds")
    entries, *_ = found([event("pay-1", 5), declined])
    expected = {"origin": origin(2, 5, GENERATION), "date_s": AT_S, "same": True}
    assert of(entries, "pay-1") == expected
    assert of(entries, "pay-2") == {**expected, "origin": origin(2, 0, GENERATION)}


def test_amounts_that_are_equal_are_the_same_content() -> None:
    entries, *_ = found([event("pay-1", amount=10.50)])
    _, prints = split_identities(request("pay-1", "10.500").identity())
    assert entries["fingerprint"].tolist() == prints.tolist()


def test_an_invalid_record_claims_nothing() -> None:
    assert len(found([failed("pay-1", "invalid"), failed("pay-2", "too_large")]).entries) == 0


def test_a_part_of_a_second_counts_as_a_whole_one() -> None:
    """An id must not be forgotten before the second that it was seen in is over."""
    entries, *_ = found([event("pay-1", processedAt="2026-01-31T09:30:00.001Z")])
    assert entries["date_s"].tolist() == [AT_S + 1]


def test_a_payment_that_waits_is_remembered_as_seen_now() -> None:
    entry = PendingEntry(
        event_id="any",
        payment_id="pay-1",
        request=Raw(
            b'{"paymentId":"pay-1","userId":"user","amount":10.5,'
            b'"currency":"USD","paymentMethod":"card"}'
        ),
        source=Source("requests", 1, 4),
        record_time_ms=0,
        parked_at="2025-01-01T00:00:00Z",
        first_attempt_at="2025-01-01T00:00:00Z",
        attempts=1,
        attempts_parked=0,
        is_unsent=False,
        next_attempt_at=None,
        reason="",
    )
    entries, waiting, *_ = found(waiting=[entry])
    assert waiting == 1
    at = {"origin": origin(1, 4, GENERATION), "date_s": AT_S, "same": True}
    assert of(entries, "pay-1") == at


@pytest.mark.parametrize("kind", ["duplicate", "conflict"])
def test_a_repeat_prolongs_the_life_of_its_id(kind: str) -> None:
    outcomes = [event("pay-1", 5), event("pay-2", 6)]
    entries, _, alone, _ = found(outcomes, [repeat("pay-1", kind), repeat("pay-1", kind, AT)])
    assert alone == 0
    first = of(entries, "pay-1")
    assert first == {"origin": origin(2, 5, GENERATION), "date_s": AT_S + A_DAY_S, "same": True}
    assert (of(entries, "pay-2") or {})["date_s"] == AT_S


def test_an_id_of_which_only_repeats_are_left_is_remembered_without_its_content() -> None:
    entries, _, alone, _ = found([event("pay-2")], [repeat("pay-1")])
    assert alone == 1
    first = of(entries, "pay-1")
    assert first == {"origin": origin(2, 5, GENERATION), "date_s": AT_S + A_DAY_S, "same": False}


def test_the_newest_of_several_outcomes_of_an_id_counts() -> None:
    """It was decided again, once it had left the window."""
    entries, *_ = found([event("pay-1", 8, processedAt=LATER), event("pay-1", 5)])
    assert (of(entries, "pay-1") or {})["origin"] == origin(2, 8, GENERATION)
    assert len(entries) == 1


def test_events_of_other_flows_are_passed_over() -> None:
    other = event("pay-1", source={"topic": "others", "partition": 0, "offset": 0})
    entries, _, _, unreadable = found([other, b"{}", b"\xff"], [b"null", other])
    assert len(entries) == 0
    assert unreadable == 3


def test_many_are_found_as_few_are() -> None:
    entries, *_ = found([event(f"pay-{n}", n) for n in range(3)] * 40_000)
    assert sorted(entries["origin"].tolist()) == [origin(2, n, GENERATION) for n in range(3)]
    assert np.unique(entries["key"], axis=0).shape == (3, 2)
