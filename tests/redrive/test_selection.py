"""Which failures become requests, and which requests: never two for one failure."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, json

from dataflow.redrive.selection import Choice, Plan, Selection, Skipped, derived
from schemas import events
from schemas.events import Error, Records
from schemas.outcomes import ErrorCode
from schemas.parsing import parse
from schemas.pending import seconds
from schemas.requests import PaymentRequest

AT_S = 1_767_225_600.0
MAX_BYTES = 100_000
RECORDS = Records("requested", 1)
RETRYABLE = Error(ErrorCode.INSUFFICIENT_FUNDS, "The balance is too low.", retryable=True)
FINAL = Error(ErrorCode.CARD_EXPIRED, "The card has expired.", retryable=False)


def request(payment_id: str, **changes: Any) -> PaymentRequest:
    fields = {
        "paymentId": payment_id,
        "userId": "user_1",
        "amount": Raw(b"10.50"),
        "currency": "USD",
        "paymentMethod": "pm_1",
    }
    found = parse(json.encode(fields | changes), MAX_BYTES)
    assert isinstance(found, PaymentRequest)
    return found


def failed(
    payment_id: str,
    *,
    error: Error = RETRYABLE,
    offset: int = 1,
    at_s: float = AT_S,
    **changes: Any,
) -> bytes:
    event = events.declined(
        RECORDS.event_id(offset),
        RECORDS.source(offset),
        request(payment_id, **changes),
        error,
        events.instant(at_s),
    )
    return events.encode(event)


def plan(
    *values: bytes | None,
    processed: tuple[str, ...] = (),
    pending: tuple[str, ...] = (),
    **choice: Any,
) -> Plan:
    selection = Selection(Choice(**choice), MAX_BYTES, pending)
    selection.take_failed(values)
    selection.take_processed(each.encode() for each in processed)
    return selection.plan()


def ids(found: Plan) -> list[str]:
    return [each.request.payment_id for each in found.redrives]


def test_a_redrive_is_the_same_payment_under_another_id() -> None:
    value = failed("pay_1", metadata={"orderId": 7})
    [redrive] = plan(value).redrives
    assert json.decode(redrive.value) == {
        "paymentId": "pay_1~redrive-1",
        "userId": "user_1",
        "amount": 10.5,
        "currency": "USD",
        "paymentMethod": "pm_1",
        "metadata": {"orderId": 7},
    }
    assert b'"amount":10.50' in redrive.value, "the digits that were sent"
    assert redrive.headers == [
        ("redrive-of", "pay_1"),
        ("redrive-event", RECORDS.event_id(1)),
    ]
    [again] = plan(value).redrives
    assert (again.value, again.headers) == (redrive.value, redrive.headers)


def test_only_what_the_gateway_calls_retryable_is_tried_again() -> None:
    found = plan(failed("pay_1"), failed("pay_2", error=FINAL))
    assert (ids(found), found.skipped) == (["pay_1~redrive-1"], Counter())
    found = plan(failed("pay_2", error=FINAL), codes=frozenset({ErrorCode.CARD_EXPIRED}))
    assert (ids(found), found.skipped) == ([], Counter({Skipped.FINAL: 1}))
    found = plan(failed("pay_2", error=FINAL), payment_ids=frozenset({"pay_2"}))
    assert (ids(found), found.skipped) == ([], Counter({Skipped.FINAL: 1}))


def test_an_invalid_record_is_never_sent() -> None:
    rejection = parse(b"{}", MAX_BYTES)
    assert not isinstance(rejection, PaymentRequest)
    event = events.rejected("e", RECORDS.source(1), rejection, events.instant(AT_S), MAX_BYTES)
    assert plan(events.encode(event)) == Plan([], Counter())


@pytest.mark.parametrize("outcome", ["failed", "processed", "pending"])
def test_a_failure_is_redriven_once(outcome: str) -> None:
    """Whatever became of the first redrive, and however long ago."""
    mine = "pay_1~redrive-1"
    values = [failed("pay_1"), *([failed(mine, error=FINAL)] if outcome == "failed" else [])]
    found = plan(
        *values,
        processed=(mine,) if outcome == "processed" else (),
        pending=(mine,) if outcome == "pending" else (),
    )
    assert (ids(found), found.skipped) == ([], Counter({Skipped.DONE: 1}))


@pytest.mark.parametrize("where", ["processed", "pending"])
def test_a_failure_whose_id_came_again_is_not_redriven(where: str) -> None:
    """After the window: then the payer has paid under the first paymentId, or is about to."""
    found = plan(failed("pay_1"), **{where: ("pay_1",)})
    assert (ids(found), found.skipped) == ([], Counter({Skipped.PROCESSED: 1}))


def test_the_last_failure_of_an_id_counts() -> None:
    found = plan(failed("pay_1", amount="1"), failed("pay_1", amount="2", offset=9))
    assert [each.request.amount for each in found.redrives] == [2]


def test_a_redrive_of_a_redrive_needs_an_option() -> None:
    values = failed("pay_1"), failed("pay_1~redrive-1", at_s=AT_S + 1)
    found = plan(*values)
    assert (ids(found), found.skipped) == ([], Counter({Skipped.DONE: 1, Skipped.GENERATION: 1}))
    found = plan(*values, max_generation=2)
    assert (ids(found), found.skipped) == (["pay_1~redrive-2"], Counter({Skipped.DONE: 1}))


@given(st.text(max_size=20), st.integers(1, 5))
def test_generations_follow_each_other(payment_id: str, times: int) -> None:
    found, generation = payment_id, derived(payment_id)[1] - 1
    for each in range(times):
        found, number = derived(found)
        assert number == generation + each + 1


def test_two_payments_never_get_one_id() -> None:
    """Not even if a sender has made ids of this form."""
    given = [
        "a",
        "a~redrive-",
        "a~redrive-0",
        "a~redrive-01",
        "a~redrive-1",
        "a~redrive-1~redrive-1",
    ]
    made = [derived(each)[0] for each in given]
    assert len({*made}) == len(made)


def test_filters_are_all_of_them() -> None:
    values = (
        failed("usd", at_s=AT_S),
        failed("eur", currency="EUR", at_s=AT_S + 10),
        failed("late", at_s=AT_S + 20),
    )
    assert ids(plan(*values, since_s=AT_S + 10)) == ["eur~redrive-1", "late~redrive-1"]
    assert ids(plan(*values, until_s=AT_S + 10)) == ["usd~redrive-1"]
    assert ids(plan(*values, currencies=frozenset({"EUR"}))) == ["eur~redrive-1"]
    assert ids(plan(*values, payment_ids=frozenset({"late", "usd"}))) == [
        "usd~redrive-1",
        "late~redrive-1",
    ]
    assert ids(plan(*values, codes=frozenset({ErrorCode.LIMIT_EXCEEDED}))) == []
    found = plan(*values, limit=1)
    assert (ids(found), found.skipped) == (["usd~redrive-1"], Counter({Skipped.LIMIT: 2}))


def test_an_id_without_room_is_left_out() -> None:
    assert ids(plan(failed("p" * 245))) == ["p" * 245 + "~redrive-1"]
    found = plan(failed("p" * 246))
    assert (ids(found), found.skipped) == ([], Counter({Skipped.TOO_LONG: 1}))


def test_a_record_that_is_no_event_stops_nothing() -> None:
    found = plan(b"{", None, failed("pay_1").replace(b"2026-", b"never"), failed("pay_2"))
    assert (ids(found), found.skipped) == (["pay_2~redrive-1"], Counter({Skipped.UNREADABLE: 3}))


def test_the_oldest_failure_is_where_the_outcomes_begin() -> None:
    selection = Selection(Choice(), MAX_BYTES, ())
    assert selection.oldest_s is None
    selection.take_failed([failed("b", at_s=AT_S + 1), failed("a", at_s=AT_S)])
    assert selection.oldest_s == AT_S == seconds(events.instant(AT_S))
