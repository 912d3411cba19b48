"""The outcome of a payment request: everything that decides it is in this file.

In order of precedence:

1. an invalid record is rejected, and claims nothing: a corrected resend goes through;
2. a paymentId seen before, with the same content, is a duplicate: nothing more happens;
3. a paymentId seen before, with other content, is a conflict: fraud or a bug, never silent;
4. the first valid request for a paymentId has the gateway's answer: processed, or declined.
   Either claims the id.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct

from dataflow.core.verdicts import Verdict
from schemas.outcomes import EventType
from schemas.replies import Definite
from schemas.requests import PaymentRequest, Rejected


class GatewayDecision(Struct, frozen=True, gc=False):
    """A first request, and the gateway's final word on it."""

    request: PaymentRequest
    reply: Definite


class Repeated(Struct, frozen=True, gc=False):
    """A request whose paymentId was claimed before."""

    request: PaymentRequest
    event_type: EventType
    """`DUPLICATE` or `CONFLICT`."""
    first_origin: int
    """The record that claimed the id; see `dataflow.core.origins.place`."""


Outcome = GatewayDecision | Repeated | Rejected

_FIRST = int(Verdict.FIRST)
_REPEATED = {
    int(Verdict.DUPLICATE): EventType.DUPLICATE,
    int(Verdict.CONFLICT): EventType.CONFLICT,
}


def due(parsed: Iterable[PaymentRequest | Rejected], verdicts: Iterable[int]) -> list[int]:
    """Return which records of a batch are to be charged."""
    return [
        record
        for record, (request, verdict) in enumerate(zip(parsed, verdicts, strict=True))
        if verdict == _FIRST and type(request) is PaymentRequest
    ]


def decide_all(
    parsed: Sequence[PaymentRequest | Rejected],
    verdicts: Sequence[int],
    first_origins: Sequence[int],
    replies: Sequence[Definite | None],
) -> list[Outcome]:
    """Return the outcomes of a batch, as `decide` does: nearly all of them are answers.

    There is a reply for those records that are `due`, and for no other.
    """
    each = zip(parsed, verdicts, first_origins, replies, strict=True)
    return [
        decide(request, verdict, first, None) if reply is None else GatewayDecision(request, reply)  # type: ignore[arg-type]
        for request, verdict, first, reply in each
    ]


def decide(
    parsed: PaymentRequest | Rejected,
    verdict: int,
    first_origin: int,
    reply: Definite | None,
) -> Outcome:
    """Return the outcome of one record.

    Args:
        parsed: What the record is.
        verdict: What is in the index about its paymentId (of no meaning for a `Rejected`).
        first_origin: Where the id was claimed.
        reply: The gateway's answer, if the record is `due`.
    """
    if isinstance(parsed, Rejected):
        return parsed
    if verdict != _FIRST:
        return Repeated(parsed, _REPEATED[verdict], first_origin)
    assert reply is not None
    return GatewayDecision(parsed, reply)
