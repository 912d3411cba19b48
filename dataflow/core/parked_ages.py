"""The payments that a lane has parked: since when, and how many of them need a person."""

from collections import OrderedDict
from collections.abc import Hashable


class ParkedAges:
    """The parked payments of one lane. All operations take the same time for any number of them."""

    def __init__(self) -> None:
        # Ordered by when they were parked; a plain dict looks for its first key past all that have
        # left.
        self._since_s: OrderedDict[Hashable, float] = OrderedDict()
        self._unresolved: set[Hashable] = set()

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._since_s)

    def put(self, payment: Hashable, since_s: float, *, is_unresolved: bool) -> None:
        """Note a payment that is parked: a new one, or one that was asked for again.

        Args:
            payment: By which it is found again.
            since_s: When it was parked, in seconds since 1970; no earlier than those before.
            is_unresolved: Whether a person has to decide it.
        """
        self._since_s[payment] = since_s
        if is_unresolved:
            self._unresolved.add(payment)
        else:
            self._unresolved.discard(payment)

    def remove(self, payment: Hashable) -> None:
        """Remove a payment that has its outcome."""
        del self._since_s[payment]
        self._unresolved.discard(payment)

    @property
    def oldest_s(self) -> float | None:
        """The time at which the oldest was parked, in seconds since 1970; None if none is."""
        return next(iter(self._since_s.values()), None)

    @property
    def unresolved(self) -> int:
        """The number of those that a person has to decide."""
        return len(self._unresolved)
