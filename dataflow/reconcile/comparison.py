"""The comparison of the provider's payments with the processed events, in both directions.

1. Only payments of a time are judged: those that the provider made in it, and those that were
   processed in it. What they are compared with may be older or newer: a payment that waited for the
   gateway is processed long after it was charged.
2. A charge and an event of one paymentId belong together if they have the same reference; what has
   no such partner, by its order.
3. A charge whose payment still waits for the gateway is no difference: the flow will look it up.
4. Amounts are compared exactly, and never across currencies.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from dataflow.gateways.listing import ListedPayment, ListedState


class Difference(StrEnum):
    """The kinds of differences."""

    NOT_PUBLISHED = "not_published"
    """Charged, but there is no processed event."""
    FAILED = "failed"
    """Charged, but published as failed."""
    TWICE = "twice"
    """Charged more often than processed."""
    NOT_CHARGED = "not_charged"
    """Processed, but the provider has no such charge."""
    AMOUNT = "amount"
    """Another amount, or another currency."""
    REFERENCE = "reference"
    """Another reference."""


class Published(NamedTuple):
    """A processed event."""

    payment_id: str
    reference: str
    amount: Decimal
    currency: str
    at_s: float


class Finding(NamedTuple):
    """One difference."""

    difference: Difference
    payment_id: str
    charged: ListedPayment | None
    processed: Published | None


class Period(NamedTuple):
    """The time whose payments are judged, in seconds since 1970."""

    since_s: float
    until_s: float

    def has(self, at_s: float | None) -> bool:
        """Return whether an instant is in it; one that is not known counts."""
        return at_s is None or self.since_s <= at_s < self.until_s


@dataclass
class Sums:
    """The money of one currency, as far as it was judged."""

    charged: Decimal = Decimal()
    processed: Decimal = Decimal()
    waiting: Decimal = Decimal()
    """Charged, but the payment still waits for the gateway."""

    @property
    def difference(self) -> Decimal:
        """Charged, less what is processed or waits."""
        return self.charged - self.processed - self.waiting


@dataclass
class Result:
    """The result of the comparison."""

    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    sums: defaultdict[str, Sums] = field(default_factory=lambda: defaultdict(Sums))

    @property
    def agrees(self) -> bool:
        """True if there is no difference."""
        return not self.findings


class Comparison:
    """The payments of both sides, by paymentId.

    Args:
        period: The time whose payments are judged.
        waiting: The paymentIds that wait for the gateway.
    """

    def __init__(self, period: Period, waiting: Iterable[str]) -> None:
        self._period = period
        self._waiting = frozenset(waiting)
        self._charged: defaultdict[str, list[ListedPayment]] = defaultdict(list)
        self._undecided: dict[str, ListedPayment] = {}
        self._processed: defaultdict[str, list[Published]] = defaultdict(list)
        self._failed: set[str] = set()
        self._foreign = 0

    def take_listed(self, listed: ListedPayment) -> None:
        """Take in a payment of the provider's list."""
        if listed.payment_id is None:
            self._foreign += 1
        elif listed.state is ListedState.APPROVED:
            self._charged[listed.payment_id].append(listed)
        else:
            self._undecided[listed.payment_id] = listed

    def take_processed(self, event: Published) -> None:
        """Take in a processed event."""
        self._processed[event.payment_id].append(event)

    def take_failed(self, payment_id: str) -> None:
        """Take in the paymentId of a failed event; the provider's list is taken in before."""
        if payment_id in self._charged:
            self._failed.add(payment_id)

    def result(self) -> Result:
        """Return the differences and the sums."""
        found = Result()
        found.counts["foreign"] = self._foreign
        for payment_id in sorted(self._charged.keys() | self._processed.keys()):
            charged = self._charged.get(payment_id, [])
            for pair in _pairs(charged, self._processed.get(payment_id, [])):
                self._judge(found, payment_id, *pair)
        return found

    def _judge(
        self, found: Result, payment_id: str, charge: ListedPayment | None, event: Published | None
    ) -> None:
        is_of_period = (charge is not None and self._period.has(charge.created_s)) or (
            event is not None and self._period.has(event.at_s)
        )
        if not is_of_period:
            return
        if charge is not None:
            found.counts["charged"] += 1
            found.sums[charge.currency].charged += charge.amount
        if event is not None:
            found.counts["processed"] += 1
            found.sums[event.currency].processed += event.amount
        elif charge is not None and payment_id in self._waiting:
            found.counts["waiting"] += 1
            found.sums[charge.currency].waiting += charge.amount
            return
        difference = self._difference(payment_id, charge, event)
        if difference is not None:
            if charge is None:
                # What the provider has of it, if that is not a charge.
                charge = self._undecided.get(payment_id)
            found.findings.append(Finding(difference, payment_id, charge, event))

    def _difference(
        self, payment_id: str, charge: ListedPayment | None, event: Published | None
    ) -> Difference | None:
        if charge is None:
            return Difference.NOT_CHARGED
        if event is None:
            if payment_id in self._processed:
                return Difference.TWICE
            is_failed = payment_id in self._failed
            return Difference.FAILED if is_failed else Difference.NOT_PUBLISHED
        if (charge.amount, charge.currency) != (event.amount, event.currency):
            return Difference.AMOUNT
        if charge.reference and charge.reference != event.reference:
            return Difference.REFERENCE
        return None


def _pairs(
    charged: list[ListedPayment], processed: list[Published]
) -> Iterator[tuple[ListedPayment | None, Published | None]]:
    """Yield what belongs together, and what is alone; each once."""
    left = list(processed)
    alone: list[ListedPayment] = []
    for charge in charged:
        same = next((event for event in left if event.reference == charge.reference), None)
        if same is None:
            alone.append(charge)
        else:
            left.remove(same)
            yield charge, same
    for number in range(max(len(alone), len(left))):
        yield (
            alone[number] if number < len(alone) else None,
            left[number] if number < len(left) else None,
        )
