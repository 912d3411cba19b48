"""The rate of calls to the provider: a token bucket that slows down when the provider asks for it.

1. Never faster than the configured rate, if there is one; a second's worth may come at once after a
   pause.
2. When the provider answers that it is too much (429), nothing more is sent for as long as it asks
   for, at least `PAUSE_S`, and after that at half the rate that was used, but never at less than
   one call in a second. Several such answers within the pause count as one, as their calls were
   sent before it: the longest pause that one of them asks for counts.
3. Each second without another such answer adds a twentieth of what it was when it was halved, up
   to the configured rate. Without a configured rate the limit goes once it is twice as high.
"""

PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
"""A provider that asks for more than this gets a probe meanwhile."""
_LEAST = 1.0
"""Calls in a second: below, one answer would take for ever to find out that it may be more."""
_GROWTH = 0.05
_MEASURED_OVER_S = 1.0


class CallRate:
    """The rate of one process. Times are in seconds, of one monotonic clock.

    Args:
        most: Calls in a second; None for no limit.
        now_s: The time.
    """

    def __init__(self, most: float | None, now_s: float) -> None:
        self._most = most
        self.limit: float | None = most
        """Calls in a second, now; None for no limit."""
        self._halved_from = most or 0.0
        self._tokens = most or 0.0
        self._filled_s = now_s
        self._paused_until_s = now_s
        self._counted = 0
        self._counted_since_s = now_s
        self._measured = 0.0

    def wait_s(self, now_s: float) -> float:
        """Return how long to wait before the next call; 0 if it may be sent now."""
        if now_s < self._paused_until_s:
            return self._paused_until_s - now_s
        self._refill(now_s)
        if self.limit is None or self._tokens >= 1:
            return 0.0
        return (1 - self._tokens) / self.limit

    def sent(self, now_s: float) -> None:
        """Note that a call was sent."""
        self._measure(now_s)
        self._counted += 1
        if self.limit is not None:
            self._tokens -= 1

    def too_fast(self, retry_after_s: float | None, now_s: float) -> None:
        """Note that the provider has answered that it is too much."""
        pause_s = min(_LONGEST_PAUSE_S, max(PAUSE_S, retry_after_s or 0.0))
        if now_s < self._paused_until_s:
            if retry_after_s is not None:
                self._pause(now_s + pause_s)
            return
        self._measure(now_s)
        used = max(self._measured, self._counted / max(now_s - self._counted_since_s, PAUSE_S))
        if self.limit is not None:
            used = min(used, self.limit)
        self._halved_from = max(used, _LEAST)
        self.limit = max(_LEAST, self._halved_from / 2)
        self._tokens = 0.0
        self._pause(now_s + pause_s)

    def _pause(self, until_s: float) -> None:
        """Send nothing, and let nothing add up, until then, or until the pause is over that is."""
        self._paused_until_s = self._filled_s = max(self._paused_until_s, until_s)

    def _measure(self, now_s: float) -> None:
        passed_s = now_s - self._counted_since_s
        if passed_s >= _MEASURED_OVER_S:
            self._measured = self._counted / passed_s
            self._counted, self._counted_since_s = 0, now_s

    def _refill(self, now_s: float) -> None:
        if self.limit is None:
            return
        passed_s, self._filled_s = max(0.0, now_s - self._filled_s), now_s
        self.limit += passed_s * _GROWTH * self._halved_from * (self.limit != self._most)
        if self._most is not None:
            self.limit = min(self._most, self.limit)
        elif self.limit >= 2 * self._halved_from:
            self.limit = None
            return
        # As much as one second's calls may come at once, and at least one.
        self._tokens = min(max(1.0, self.limit), self._tokens + passed_s * self.limit)
