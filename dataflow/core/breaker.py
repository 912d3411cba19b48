"""The breaker between the flow and its payment provider: is it an outage, or one odd payment?

In an outage nobody gets through, so the flow holds: it reads nothing more, and probes. A payment
that alone gets no answer is parked instead, and all others go on.

1. An answer is definite if it decides the payment. A decline is: the provider is well.
2. Only first attempts open the breaker: `ROW` of them in a row without a definite answer, or
   `SHARE_BAD` of the last `SHARE_OF`. What was parked is asked again and again, and at night there
   may be nothing else: a few payments that never get an answer are no outage.
3. A provider that refuses our credentials, or our URL, opens it at once: it would refuse everybody.
   So does one that has refused many requests in a row (`dataflow.core.refusals`).
4. Any definite answer closes it, whatever was asked: a probe, a trial, or a call from before.
5. What was counted before is forgotten then. Until `PROBATION` definite answers have come, fewer
   failures in a row open it again.
"""

from collections import deque

ROW = 20
SHARE_OF = 50
SHARE_BAD = 45
PROBATION = 20
_PROBATION_ROW = 5


class Breaker:
    """The breaker of one process. Times are in seconds, of one monotonic clock."""

    def __init__(self) -> None:
        self.open_since_s: float | None = None
        """The time at which it opened; None while it is closed."""
        self.reason = ""
        """The last reason that was given for it."""
        self.is_misconfigured = False
        """True if that was the provider's refusal of us: of our credentials, or our URL."""
        self.times_opened = 0
        self._row = 0
        self._last: deque[bool] = deque(maxlen=SHARE_OF)
        self._probation = 0

    @property
    def is_open(self) -> bool:
        """True if the provider is taken to be away."""
        return self.open_since_s is not None

    def definite(self, *, first: bool, count: int = 1) -> bool:
        """Note so many definite answers; return whether that closed it.

        Args:
            first: Whether they answered first attempts.
            count: How many came at once.
        """
        self._row = 0
        if self.is_open:
            self.open_since_s = None
            self._last.clear()
            self._probation = PROBATION
            return True
        self._probation = max(0, self._probation - count)
        if first:
            self._last.extend([True] * min(count, SHARE_OF))
        return False

    def indefinite(self, reason: str, now_s: float, *, first: bool) -> bool:
        """Note an attempt without a definite answer; return whether that opened it."""
        if self.is_open:
            self.reason, self.is_misconfigured = reason, False
            return False
        if not first:
            return False
        self._row += 1
        self._last.append(False)
        most = _PROBATION_ROW if self._probation else ROW
        if self._row < most and self._last.count(False) < SHARE_BAD:
            return False
        return self._trip(reason, now_s, is_misconfigured=False)

    def misconfigured(self, reason: str, now_s: float) -> bool:
        """Note that the provider refuses us, not a payment; return whether that opened it."""
        if self.is_open:
            self.reason, self.is_misconfigured = reason, True
            return False
        return self._trip(reason, now_s, is_misconfigured=True)

    def _trip(self, reason: str, now_s: float, *, is_misconfigured: bool) -> bool:
        self.open_since_s, self.reason, self.is_misconfigured = now_s, reason, is_misconfigured
        self.times_opened += 1
        self._row = 0
        return True
