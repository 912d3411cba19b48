"""The outcome of a payment request: the table."""

import msgspec
import pytest

from dataflow.core.decision import (
    GatewayDecision,
    Outcome,
    Repeated,
    decide,
    decide_all,
    due,
)
from dataflow.core.verdicts import Verdict
from schemas.outcomes import ErrorCode, EventType
from schemas.replies import Approved, Declined
from schemas.requests import PaymentRequest, Rejected

VALID = PaymentRequest("pay_123", "user_456", msgspec.Raw(b"99.99"), "USD", "credit_card")
INVALID = Rejected(code=ErrorCode.INVALID, message="amount: is required", payment_id="pay_123")
YES = Approved("ch_1")
NO = Declined(ErrorCode.CARD_EXPIRED, "The card has expired.", retryable=False)
FIRST, DUPLICATE, CONFLICT = Verdict
ORIGIN = 42


@pytest.mark.parametrize(
    ("parsed", "verdict", "reply", "outcome"),
    [
        # 1. what is invalid is rejected, whatever is known of its id
        (INVALID, FIRST, None, INVALID),
        (INVALID, DUPLICATE, None, INVALID),
        (INVALID, CONFLICT, None, INVALID),
        # 2. and 3. what was seen before is never charged
        (VALID, DUPLICATE, None, Repeated(VALID, EventType.DUPLICATE, ORIGIN)),
        (VALID, CONFLICT, None, Repeated(VALID, EventType.CONFLICT, ORIGIN)),
        # 4. what is new has the gateway's answer
        (VALID, FIRST, YES, GatewayDecision(VALID, YES)),
        (VALID, FIRST, NO, GatewayDecision(VALID, NO)),
    ],
)
def test_outcomes_in_order_of_precedence(
    parsed: PaymentRequest | Rejected,
    verdict: Verdict,
    reply: Approved | Declined | None,
    outcome: Outcome,
) -> None:
    assert decide(parsed, verdict, ORIGIN, reply) == outcome
    # Steps hand verdicts on as plain numbers.
    assert decide(parsed, int(verdict), ORIGIN, reply) == outcome


@pytest.mark.parametrize("verdict", Verdict)
def test_only_a_first_request_is_charged(verdict: Verdict) -> None:
    assert due([VALID], [int(verdict)]) == ([0] if verdict is FIRST else [])
    assert due([INVALID], [int(verdict)]) == []


def test_a_first_request_without_a_reply_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        decide(VALID, FIRST, ORIGIN, None)


BATCH = [(parsed, int(verdict)) for parsed in (VALID, INVALID) for verdict in Verdict]


def test_a_batch_is_decided_as_its_records_are() -> None:
    parsed, verdicts = zip(*BATCH, strict=True)
    charged = due(parsed, verdicts)
    assert charged == [0]
    replies = [YES if n in charged else None for n in range(len(BATCH))]
    origins = list(range(len(BATCH)))
    wanted = [decide(*each) for each in zip(parsed, verdicts, origins, replies, strict=True)]
    assert decide_all(parsed, verdicts, origins, replies) == wanted


def test_a_batch_that_lacks_a_reply_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        decide_all([VALID], [int(FIRST)], [ORIGIN], [None])


def test_every_verdict_has_an_outcome() -> None:
    for verdict in Verdict:
        decide(VALID, verdict, ORIGIN, YES)
