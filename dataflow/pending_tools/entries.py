"""The open entries of the pending topic, and the choice of those that a person wants to see."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import NamedTuple

from dataflow.core.lane_log import is_of_a_lane
from dataflow.kafka.topic_scan import Chunk
from schemas import pending
from schemas.pending import PendingEntry, PendingState


class OpenEntries:
    """The open entries: of each eventId the last record counts, and a tombstone ends it.

    Attributes:
        foreign: Records that no lane has written, which the flow passes over as well.
    """

    def __init__(self) -> None:
        self.foreign = 0
        self._values: dict[bytes | None, bytes] = {}

    def take(self, chunk: Chunk) -> None:
        """Take in records, in their order."""
        for key, value, headers in zip(chunk.keys, chunk.values, chunk.headers, strict=True):
            if not is_of_a_lane(headers):
                self.foreign += 1
            elif value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value

    def read(self) -> tuple[list[PendingEntry], int]:
        """Return the entries, the oldest first, and how many cannot be read by this version."""
        found: list[PendingEntry] = []
        unreadable = 0
        for value in self._values.values():
            try:
                found.append(pending.decode(value))
            except ValueError:
                unreadable += 1
        return sorted(found, key=lambda entry: (entry.parked_at, entry.event_id)), unreadable


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
