"""The provider's own book against what is published: each payment charged once, as it is published.

1. The provider is believed about money, and the topics about everything else: neither is asked what
   the other should have.
2. An *execution* is a line of the book, a *charge* one that has moved money. A payment has one
   execution at most, even if it was declined: the second one might have been approved.
3. What is charged is the content of the record that decided the payment, to the cent; not that of
   a conflict with it, or of a record that is no request.
4. A processed payment has a charge, of that reference. A failed one has none, and the provider has
   declined it, unless it could not be sent.
5. What waits when all is over was looked up: the provider has nothing that would decide it, and
   either a person has to look at it, or the provider itself has not decided.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from dataflow.fake_provider.book import (
    CANCELED,
    DECLINED,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
    Payment,
)
from schemas.requests import PaymentRequest
from tests.support.invariants import Findings, Place, source_of

COLUMNS: Mapping[str, str] = {
    "charged twice": "payments that the provider executed more than once",
    "charged otherwise": "charges of another amount, currency, user or method than is published",
    "charged for a repeat": "charges with the content of a record that was a conflict",
    "charged for no request": "charges of a paymentId that no valid record has",
    "charged, not published": "charges of payments that have no outcome, and are not pending",
    "charged, published as failed": "charges of payments whose outcome is a failure",
    "processed, never charged": "processed payments without a charge",
    "failed, never declined": "declined payments that the provider has not declined",
    "another reference": "processed payments with another reference than that of their charge",
    "waits, though decided": "payments pending at the end that the provider has decided",
    "waits for nothing": "payments pending at the end, neither unresolved nor pending there",
}
"""The differences, by their names in the tables; each count must be 0."""
FIGURES = ("charges", "declines", "unresolved", "pending at the provider")
"""The counts besides."""

DECIMALS = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}
"""Of the currencies of the load; our own table, and the same for both shapes of the provider."""
_NOT_SENT = {"method_not_supported", "invalid_payment_method"}
_FINAL = {SUCCEEDED, DECLINED, CANCELED}

Content = tuple[str, str, int, str]
"""User, method, minor units, currency."""


def compare(
    book: Iterable[Payment],
    requests: Mapping[Place, PaymentRequest],
    outcomes: Iterable[dict[str, Any]],
    pending: Mapping[Place, dict[str, Any]],
) -> Findings:
    """Return what the comparison finds.

    Args:
        book: The provider's, all of it.
        requests: The valid records of the request topic.
        outcomes: The events of both topics; those of invalid records do not count.
        pending: The open entries of the pending topic.
    """
    findings = Findings()
    copies: defaultdict[str, set[Content]] = defaultdict(set)
    for request in requests.values():
        copies[request.payment_id].add(_asked(request))
    executions: defaultdict[str, list[Payment]] = defaultdict(list)
    for payment in book:
        executions[payment.payment_id].append(payment)
    decided = {e["paymentId"]: e for e in outcomes if source_of(e) in requests}
    waiting = {entry["paymentId"]: entry for entry in pending.values()}
    for payment_id in sorted(copies.keys() | executions.keys()):
        made = executions.get(payment_id, [])
        charges = [each for each in made if each.status == SUCCEEDED]
        findings.counts["charges"] += len(charges)
        findings.counts["declines"] += sum(each.status in {DECLINED, CANCELED} for each in made)
        found = [
            *_executed(made),
            *_charged(charges, copies.get(payment_id, set()), decided.get(payment_id)),
        ]
        if payment_id in copies:
            waits = payment_id in waiting
            found += _published(decided.get(payment_id), made, charges, waits=waits)
        if payment_id in waiting:
            entry = waiting[payment_id]
            found += _still_waiting(entry, made)
            is_unresolved = entry["state"] == "unresolved"
            findings.counts["unresolved" if is_unresolved else "pending at the provider"] += 1
        findings.problems += [f"{each} ({payment_id})" for each in found]
    return findings


def _executed(made: Sequence[Payment]) -> Iterator[str]:
    if len(made) > 1:
        yield f"charged twice: {[(each.id, each.status) for each in made]}"


def _charged(
    charges: Sequence[Payment], copies: set[Content], event: dict[str, Any] | None
) -> Iterator[str]:
    """Check what was charged against what was asked for, and what is published."""
    for charge in charges:
        content = _of_book(charge)
        if not copies:
            yield f"charged for no request: {charge.id}"
        elif event is not None and content != _of_event(event):
            kind = "charged for a repeat" if content in copies else "charged otherwise"
            yield f"{kind}: {content}, published {_of_event(event)}"
        elif content not in copies:
            yield f"charged otherwise: {content}, asked for {sorted(copies)}"


def _published(
    event: dict[str, Any] | None,
    made: Sequence[Payment],
    charges: Sequence[Payment],
    *,
    waits: bool,
) -> Iterator[str]:
    """Check an outcome, or that there is none, against the book."""
    if event is None:
        if charges and not waits:
            yield f"charged, not published: {charges[0].id}"
    elif event["eventType"] == "payment.processed":
        if not charges:
            yield f"processed, never charged: {event['gatewayReference']}"
        elif event["gatewayReference"] not in {each.id for each in charges}:
            yield f"another reference: {event['gatewayReference']}, charged {charges[0].id}"
    elif charges:
        yield f"charged, published as failed: {charges[0].id}"
    elif not any(each.status in {DECLINED, CANCELED} for each in made) and (
        made or event["error"]["code"] not in _NOT_SENT
    ):
        yield f"failed, never declined: {event['error']['code']}"


def _still_waiting(entry: dict[str, Any], made: Sequence[Payment]) -> Iterator[str]:
    answers = [each for each in made if each.status in _FINAL]
    if answers:
        yield f"waits, though decided: {answers[0].id} is {answers[0].status}"
    elif entry["state"] != "unresolved" and not any(
        each.status in {PROCESSING, REQUIRES_ACTION} for each in made
    ):
        yield f"waits for nothing: {entry['attempts']} attempts, {entry['reason']}"


def _asked(request: PaymentRequest) -> Content:
    units = _units(request.amount, request.currency)
    return request.user_id, request.payment_method, units, request.currency


def _of_event(event: dict[str, Any]) -> Content:
    units = _units(Decimal(event["amount"]), event["currency"])
    return event["userId"], event["paymentMethod"], units, event["currency"]


def _of_book(payment: Payment) -> Content:
    return payment.customer, payment.method, payment.amount, payment.currency.upper()


def _units(amount: Decimal, currency: str) -> int:
    return int(amount.scaleb(DECIMALS[currency]))
