"""The hold of a process: it reads nothing while the provider answers nobody, and finds out the end.

1. A process holds while its breaker is open, while too much is parked, and while another process
   of the cluster holds: records go to everybody's lanes.
2. While the breaker is open, probes are sent. They get rarer with the length of an outage.
3. Now and then a *trial*: one record of each source is read in the hold. It may be that nothing but
   odd payments is parked, which never get an answer, so that no probe can end it. Each source has
   its own, as one with nothing to read would use up the trials of the others.
4. While too much is parked and the provider is well, probes are sent, too: what is parked may be
   due only hours later. A definite answer then makes all of it due, once in `RELEASED_EVERY_S`.
5. A hold is announced to the other processes, again and again, and its end once. One that is not
   announced again is over: its process may have ended.

Times are in seconds, of one monotonic clock.
"""

from enum import StrEnum
from typing import NamedTuple

from dataflow.core.breaker import Breaker

PROBE_LEAST_S, PROBE_MOST_S, _PROBE_SHARE = 1.0, 10.0, 60.0
TRIAL_LEAST_S, _TRIAL_MOST_S, _TRIAL_SHARE = 5.0, 300.0, 4.0
"""The pauses between two of them are a share of the outage so far, within bounds."""
RELEASED_EVERY_S = 60.0
ANNOUNCED_EVERY_S = 1.0
BELIEVED_FOR_S = 2.5


class HoldCause(StrEnum):
    """The reason why a process reads nothing."""

    OUTAGE = "outage"
    """The gateway answers nobody."""
    MISCONFIGURED = "misconfigured"
    """The gateway refuses our credentials, or our URL, or every request."""
    PARKED = "parked"
    """Too much is parked."""
    PEER = "peer"
    """Another process of the cluster holds."""


class Held(NamedTuple):
    """A hold, by what and since when."""

    cause: HoldCause
    since_s: float
    reason: str
    """The provider's last one, or our own."""


class Hold:
    """The hold of one process.

    Args:
        breaker: Its breaker.
        parked_most: Payments that may be parked, without those that wait for a person: no hold may
            last until one comes.
    """

    def __init__(self, breaker: Breaker, parked_most: int) -> None:
        self._breaker = breaker
        self._parked_most = parked_most
        self._full_since_s: float | None = None
        self._probe_at_s = self._first_trial_s = self._release_at_s = 0.0
        self._trial_at_s: dict[int, float] = {}
        self._announced_s: float | None = None
        self._held_by: dict[int, float] = {}
        self._peers_since_s = 0.0

    def opened(self, now_s: float) -> None:
        """Note that the breaker has opened."""
        self._probe_at_s, self._first_trial_s = now_s + PROBE_LEAST_S, now_s + TRIAL_LEAST_S
        self._trial_at_s.clear()

    @property
    def next_probe_s(self) -> float | None:
        """The time of the next probe; None if there is no outage."""
        return self._probe_at_s if self._breaker.is_open else None

    def is_probe_due(self, now_s: float) -> bool:
        """Return whether a probe is due; the next one is after a pause."""
        if not self.is_held or now_s < self._probe_at_s:
            return False
        self._probe_at_s = now_s + self._pause_s(now_s, PROBE_LEAST_S, PROBE_MOST_S, _PROBE_SHARE)
        return True

    def note_parked(self, parked: int, now_s: float) -> None:
        """Note how many payments are parked."""
        if parked < self._parked_most:
            self._full_since_s = None
        elif self._full_since_s is None:
            self._full_since_s = now_s

    @property
    def is_held(self) -> bool:
        """True if this process holds by itself."""
        return self._breaker.is_open or self._full_since_s is not None

    @property
    def is_full(self) -> bool:
        """True if it holds because too much is parked, and not because the provider is away."""
        return self._full_since_s is not None and not self._breaker.is_open

    @property
    def since_s(self) -> float | None:
        """The time since which this process holds by itself; None if it does not."""
        return self._breaker.open_since_s if self._breaker.is_open else self._full_since_s

    @property
    def reason(self) -> str:
        """The reason why this process holds by itself."""
        if self.is_full:
            return f"GATEWAY_PARKED_MAX is {self._parked_most}"
        return self._breaker.reason

    def is_release_due(self, now_s: float) -> bool:
        """Return whether a definite answer is to make all due, since too much is parked."""
        if not self.is_full or now_s < self._release_at_s:
            return False
        self._release_at_s = now_s + RELEASED_EVERY_S
        return True

    def is_held_by_others(self, now_s: float) -> bool:
        """Return whether another process holds."""
        return any(until_s > now_s for until_s in list(self._held_by.values()))

    def held(self, now_s: float) -> Held | None:
        """Return why this process reads nothing; None if it reads."""
        since_s = self.since_s
        if since_s is not None:
            return Held(self._cause, since_s, self.reason)
        if self.is_held_by_others(now_s):
            reason = "another process of the cluster holds"
            return Held(HoldCause.PEER, self._peers_since_s, reason)
        return None

    @property
    def _cause(self) -> HoldCause:
        if self.is_full:
            return HoldCause.PARKED
        return HoldCause.MISCONFIGURED if self._breaker.is_misconfigured else HoldCause.OUTAGE

    def is_trial_due(self, source: int, now_s: float) -> bool:
        """Return whether a source may read one record in the hold; the next is after a pause."""
        due_s = self._trial_at_s.get(source, self._first_trial_s)
        if not self._breaker.is_open or now_s < due_s:
            return False
        pause_s = self._pause_s(now_s, TRIAL_LEAST_S, _TRIAL_MOST_S, _TRIAL_SHARE)
        self._trial_at_s[source] = now_s + pause_s
        return True

    def peer(self, partition: int, now_s: float, *, holds: bool) -> None:
        """Note that the process that reads a partition holds, or does so no longer."""
        if holds:
            if not self.is_held_by_others(now_s):
                self._peers_since_s = now_s
            self._held_by[partition] = now_s + BELIEVED_FOR_S
        else:
            self._held_by.pop(partition, None)

    def to_announce(self, now_s: float) -> bool | None:
        """Return True if the others are to hold, False if not any longer; None if it is no news."""
        since_s = self._announced_s
        if not self.is_held:
            self._announced_s = None
            return None if since_s is None else False
        if since_s is not None and now_s - since_s < ANNOUNCED_EVERY_S:
            return None
        self._announced_s = now_s
        return True

    def _pause_s(self, now_s: float, least_s: float, most_s: float, share: float) -> float:
        since_s = self._breaker.open_since_s
        passed_s = 0.0 if since_s is None else now_s - since_s
        return min(most_s, max(least_s, passed_s / share))
