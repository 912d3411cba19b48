"""The payments that are to be asked for: which is next, and when the others are due.

1. A payment that is new goes before one that is asked for again, but `NEW_IN_A_ROW` of them do not
   shut one of those out.
2. One that was asked for is due at its time: at the head of the new ones while its lane waits for
   it, else behind others that are asked for again.
3. A probe, in an outage, is in turn a new one, and one that is due or waits: each time another one.
4. After an outage everything that waits is due: what failed in it is no odd payment.

Times are in seconds, of one monotonic clock.
"""

import heapq
from collections import deque
from itertools import count

from dataflow.core.lane_queue import Charge

NEW_IN_A_ROW = 3


class CallQueue:
    """The payments of one process that are not in flight."""

    def __init__(self) -> None:
        self._new: deque[Charge] = deque()
        self._due: deque[Charge] = deque()
        self._later: list[tuple[float, int, Charge]] = []
        self._numbers = count()
        self._soon: set[Charge] = set()
        self._new_in_a_row = 0
        self._probed_new = False

    @property
    def new(self) -> int:
        """The number of payments that were never asked for, or are due and waited for."""
        return len(self._new)

    @property
    def waiting(self) -> int:
        """The number of payments that are to be asked for again."""
        return len(self._later) + len(self._due)

    @property
    def outstanding(self) -> int:
        """The number of payments that lanes wait for, or that were never asked for."""
        return len(self._new) + len(self._soon)

    @property
    def is_ready(self) -> bool:
        """True if there is one to be asked for now."""
        return bool(self._new or self._due)

    @property
    def next_s(self) -> float | None:
        """The time at which the next one is due; None if none waits for its time."""
        return self._later[0][0] if self._later else None

    def add(self, charge: Charge) -> None:
        """Add a payment that is new."""
        self._new.append(charge)

    def add_due(self, charge: Charge) -> None:
        """Add a payment that is to be asked for again now."""
        self._due.append(charge)

    def put_off(self, charge: Charge, until_s: float) -> None:
        """Add a payment that is to be asked for again at a time."""
        if charge.parked is None:
            self._soon.add(charge)
        heapq.heappush(self._later, (until_s, next(self._numbers), charge))

    def remove(self, charge: Charge) -> None:
        """Take a payment out, wherever it waits."""
        for each in (self._new, self._due):
            if charge in each:
                each.remove(charge)
        self._later = [each for each in self._later if each[2] is not charge]
        heapq.heapify(self._later)
        self._soon.discard(charge)

    def advance(self, now_s: float) -> None:
        """Take in what time it is: some become due."""
        while self._later and self._later[0][0] <= now_s:
            charge = self._pop_later()
            if charge.parked is None:
                self._new.appendleft(charge)
            else:
                self._due.append(charge)

    def release(self) -> None:
        """Make everything due that waits for its time."""
        for _, _, charge in sorted(self._later):
            charge.next_attempt_s = None
            self._due.append(charge)
        self._later.clear()
        self._soon.clear()

    def next(self) -> Charge | None:
        """Return the payment that is asked for next, and take it out; None if none is due."""
        if self._new and (self._new_in_a_row < NEW_IN_A_ROW or not self._due):
            self._new_in_a_row += 1
            return self._new.popleft()
        self._new_in_a_row = 0
        return self._due.popleft() if self._due else None

    def probe(self) -> Charge | None:
        """Return the payment to try in an outage, and take it out; None if there is none."""
        self._probed_new = not self._probed_new
        if self._new and (self._probed_new or not self.waiting):
            return self._new.popleft()
        if self._due:
            return self._due.popleft()
        return self._pop_later() if self._later else None

    def _pop_later(self) -> Charge:
        charge = heapq.heappop(self._later)[2]
        charge.next_attempt_s = None
        self._soon.discard(charge)
        return charge
