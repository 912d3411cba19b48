"""A person's decision: when it is carried out, and which ones are open."""

from typing import Any

import msgspec
import pytest

from dataflow.core.lane_log import headers
from dataflow.core.lanes import lane_of_key
from dataflow.core.persons_decisions import LOOK_UPS_MOST, DecisionInbox, outcome
from schemas import decisions
from schemas.decisions import PersonsDecision
from schemas.outcomes import ErrorCode
from schemas.replies import (
    Approved,
    Declined,
    Definite,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
)
from schemas.requests import key_of

LANES = 4
LANE = headers(1, LANES)


def decision(payment_id: str = "pay_1", **how: Any) -> PersonsDecision:
    fields = {"event_id": f"e-{payment_id}", "payment_id": payment_id}
    who = {"by": "ann", "at": "2026-01-01T00:00:00.000Z", "reason": "ticket 7"}
    what = {} if "code" in how else {"reference": "ch_1"}
    return PersonsDecision(**{**fields, **who, **what, **how})


PROCESSED = decision()
FAILED = decision(code=ErrorCode.CARD_EXPIRED)
THEIRS = Approved("ch_2")
NO = Declined(ErrorCode.DECLINED, "No.", retryable=False)


@pytest.mark.parametrize("given", [PROCESSED, FAILED])
@pytest.mark.parametrize("found", [THEIRS, NO])
def test_a_definite_answer_of_the_provider_counts(given: PersonsDecision, found: Definite) -> None:
    """Whatever the person has decided: else money that moved would be published as failed."""
    assert outcome(given, found, 0) is found


@pytest.mark.parametrize(
    ("found", "fruitless", "stands"),
    [
        (None, 0, True),
        (Unknown("500", saved=True), 1, True),
        (Unknown("timeout"), 1, False),
        (Unknown("timeout"), LOOK_UPS_MOST - 1, False),
        (Unknown("timeout"), LOOK_UPS_MOST, True),
        (NotExecuted("connection refused"), 99, False),
        (Misconfigured("401"), 99, False),
        (Pending("ch_2"), 99, False),
    ],
)
def test_a_decision_stands_once_the_provider_has_no_answer(
    found: Reply | None, fruitless: int, *, stands: bool
) -> None:
    for given in (PROCESSED, FAILED):
        assert outcome(given, found, fruitless) == (given.reply if stands else None)


def test_a_forced_decision_does_not_wait_for_a_provider_that_decides_for_ever() -> None:
    given = decision(force=True)
    assert outcome(given, Pending("ch_2"), 0) == Approved("ch_1")
    assert outcome(given, THEIRS, 0) is THEIRS
    assert outcome(given, NotExecuted("connection refused"), 0) is None


def put(inbox: DecisionInbox, *given: PersonsDecision) -> None:
    for each in given:
        inbox.take(each.key, decisions.encode(each), None)


def test_a_decision_goes_to_the_lane_of_its_payment_once() -> None:
    inbox = DecisionInbox(LANES)
    given = [decision(f"pay_{n}") for n in range(20)]
    put(inbox, *given)
    found = inbox.take_out()
    assert sorted(each.payment_id for mine in found.values() for each in mine) == sorted(
        each.payment_id for each in given
    )
    for lane, mine in found.items():
        assert {lane_of_key(key_of(each.payment_id), LANES) for each in mine} == {lane}
    assert inbox.take_out() == {}


def test_a_decision_that_is_over_is_none() -> None:
    inbox = DecisionInbox(LANES)
    put(inbox, PROCESSED)
    inbox.take(PROCESSED.key, None, LANE)
    assert inbox.take_out() == {}


def test_only_a_lane_ends_a_decision() -> None:
    inbox = DecisionInbox(LANES)
    put(inbox, PROCESSED)
    inbox.take(PROCESSED.key, None, None)
    assert sum(map(len, inbox.take_out().values())) == 1


def test_the_last_decision_about_a_payment_counts() -> None:
    inbox = DecisionInbox(LANES)
    put(inbox, PROCESSED, FAILED)
    assert [*inbox.take_out().values()] == [[FAILED]]


def test_entries_are_no_decisions() -> None:
    inbox = DecisionInbox(LANES)
    inbox.take(b"e-1", b"{}", LANE)
    inbox.take(None, b"{}", None)
    assert inbox.take_out() == {}


@pytest.mark.parametrize(
    "change",
    [
        {"reference": None},
        {"code": "declined"},
        {"reference": None, "code": "malformed"},
        {"reference": None, "code": "unheard_of"},
        {"reference": ""},
        {"reference": "x" * 256},
        {"eventId": "e-2"},
        {"by": ""},
        {"reason": ""},
    ],
)
def test_a_record_that_is_no_decision_is_refused(change: dict[str, Any]) -> None:
    value = msgspec.json.decode(decisions.encode(PROCESSED)) | change
    inbox = DecisionInbox(LANES)
    with pytest.raises(ValueError, match=r"."):
        inbox.take(PROCESSED.key, msgspec.json.encode(value), None)
    assert inbox.take_out() == {}
