"""The choice of the entries that a person wants to see, and their figures."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from schemas import pending
from schemas.pending import PendingEntry, PendingState


class Choice(NamedTuple):
    """The entries that a person wants to see."""

    unresolved: bool = False
    older_than_s: float = 0.0
    payment_id: str | None = None

    def has(self, entry: PendingEntry, now_s: float) -> bool:
        """Return whether an entry is one of them."""
        return (
            (not self.unresolved or entry.state is PendingState.UNRESOLVED)
            and age_s(entry, now_s) >= self.older_than_s
            and self.payment_id in {None, entry.payment_id}
        )


class Summary(NamedTuple):
    """The entries in figures."""

    number: int
    unresolved: int
    oldest_s: float
    reasons: list[tuple[str, int]]
    """The commonest first."""
    money: dict[str, Decimal]
    """By currency."""


def age_s(entry: PendingEntry, now_s: float) -> float:
    """Return for how long a payment has been parked."""
    return now_s - pending.seconds(entry.parked_at)


def summary(entries: Iterable[PendingEntry], now_s: float) -> Summary:
    """Return the figures of some entries."""
    each = list(entries)
    money: defaultdict[str, Decimal] = defaultdict(Decimal)
    for entry in each:
        request = entry.payment()
        money[request.currency] += request.amount
    return Summary(
        number=len(each),
        unresolved=sum(entry.state is PendingState.UNRESOLVED for entry in each),
        oldest_s=max((age_s(entry, now_s) for entry in each), default=0.0),
        reasons=Counter(entry.reason for entry in each).most_common(),
        money=dict(sorted(money.items())),
    )
