"""The result, for people and for machines."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from dataflow.console.text import amount_text, plain
from dataflow.gateways.listing import ListedPayment, ListedState
from dataflow.reconcile.comparison import Difference, Finding, Period, Published, Result
from schemas import events
from schemas.pending import PendingEntry

_SHOWN = 100
_MEANING = {
    Difference.NOT_PUBLISHED: "charged, but not processed",
    Difference.FAILED: "charged, but published as failed",
    Difference.TWICE: "charged once more than processed",
    Difference.NOT_CHARGED: "processed, but not charged",
    Difference.AMOUNT: "another amount",
    Difference.REFERENCE: "another reference",
}


class Report(NamedTuple):
    """The comparison, and what else a reader of it has to know."""

    period: Period
    result: Result
    waiting: list[PendingEntry]
    """All payments that wait for the gateway."""
    unreadable: int
    """Events and entries that this version cannot read."""

    def notes(self) -> Iterator[str]:
        """Yield what is no difference, but is to be known."""
        if foreign := self.result.counts["foreign"]:
            yield f"{foreign} payments of the provider have no paymentId: another system made them"
        if self.unreadable:
            yield f"{self.unreadable} records of the topics cannot be read by this version"


def as_text(report: Report) -> Iterator[str]:
    """Yield the report in lines."""
    result, counts = report.result, report.result.counts
    since, until = map(events.instant, report.period)
    yield f"Payments from {since} until {until}"
    yield ""
    yield f"{counts['charged']:>9,}  charged by the provider"
    yield f"{counts['processed']:>9,}  processed"
    yield f"{counts['waiting']:>9,}  charged, and waiting for the gateway's answer"
    yield f"{len(report.waiting):>9,}  pending in all"
    found = Counter(each.difference for each in result.findings)
    for difference, meaning in _MEANING.items():
        yield f"{found[difference]:>9,}  {meaning}"
    if result.sums:
        yield ""
        yield f"{'':>5}{'charged':>22}{'processed':>22}{'waiting':>18}{'difference':>18}"
    for currency, sums in sorted(result.sums.items()):
        each = (sums.charged, sums.processed, sums.waiting, sums.difference)
        texts = [amount_text(amount, currency) for amount in each]
        yield f"{plain(currency):>5}{texts[0]:>22}{texts[1]:>22}{texts[2]:>18}{texts[3]:>18}"
    for note in report.notes():
        yield f"\nNote: {note}."
    if result.findings:
        yield ""
    for finding in result.findings[:_SHOWN]:
        yield f"  {_sentence(finding)}"
    if len(result.findings) > _SHOWN:
        yield f"  and {len(result.findings) - _SHOWN:,} more (--json has all)"
    yield "\nBoth sides agree." if result.agrees else "\nThe sides DIFFER."


def as_json(report: Report) -> str:
    """Return the report as one JSON object; amounts are strings, so that no reader rounds them."""
    result = report.result
    since, until = map(events.instant, report.period)
    found = {
        "agrees": result.agrees,
        "since": since,
        "until": until,
        "counts": {
            **{name: result.counts[name] for name in ("charged", "processed", "waiting")},
            "pending": len(report.waiting),
            "foreign": result.counts["foreign"],
        },
        "differences": {
            each.value: sum(found.difference is each for found in result.findings)
            for each in Difference
        },
        "money": {
            currency: {
                "charged": amount_text(sums.charged, currency),
                "processed": amount_text(sums.processed, currency),
                "waiting": amount_text(sums.waiting, currency),
                "difference": amount_text(sums.difference, currency),
            }
            for currency, sums in sorted(result.sums.items())
        },
        "findings": [_object(each) for each in result.findings],
        "notes": list(report.notes()),
    }
    return json.dumps(found, indent=2)


def _sentence(finding: Finding) -> str:
    sides = []
    if finding.charged is not None:
        state = finding.charged.state
        verb = "charged" if state is ListedState.APPROVED else f"{state.value} at the provider:"
        sides.append(f"{verb} {_money(finding.charged)}")
    if finding.processed is not None:
        sides.append(f"processed {_money(finding.processed)}")
    return f"{plain(finding.payment_id)}: {_MEANING[finding.difference]} ({'; '.join(sides)})"


def _money(side: ListedPayment | Published) -> str:
    return f"{amount_text(side.amount, side.currency)} {plain(f'{side.currency} {side.reference}')}"


def _object(finding: Finding) -> dict[str, Any]:
    return {
        "difference": finding.difference.value,
        "paymentId": finding.payment_id,
        "charged": _side(finding.charged),
        "processed": _side(finding.processed),
    }


def _side(side: ListedPayment | Published | None) -> dict[str, Any] | None:
    if side is None:
        return None
    at_s = side.created_s if isinstance(side, ListedPayment) else side.at_s
    return {
        "reference": side.reference,
        "amount": amount_text(side.amount, side.currency),
        "currency": side.currency,
        "at": None if at_s is None else events.instant(at_s),
        **({"state": side.state.value} if isinstance(side, ListedPayment) else {}),
    }
