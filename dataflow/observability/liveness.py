"""The rule of liveness: whether the flow makes progress, and what excuses it if not.

1. Progress is an epoch that closes. A process that closes none for `LIVENESS_TIMEOUT` is stuck, and
   a restart may help it.
2. Where a restart would not help, there is an excuse: a start within its grace, a wait with a
   deadline of its own that is not over, a restore that goes on, a Kafka that is away, other
   processes that may still be busy.
3. When an excuse ends, the flow has the whole time again to close its epoch.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from dataflow.observability.restore_progress import Restores

AWAITS_PEERS = "waiting for the other processes of the cluster to start"


class LivenessLimits(NamedTuple):
    """The limits of the time in which a process closes no epoch."""

    timeout_s: float
    """The time the flow may make no progress."""
    startup_grace_s: float = 120.0
    """The same, until the first epoch has closed."""
    processes: int = 1
    """In the cluster."""
    peers_wait_s: float = 0.0
    """The longest declared wait of any other process: none closes its epoch before all do."""


class Liveness:
    """The liveness of one process. Not safe to use from several threads: `Status` has the lock.

    Attributes:
        epoch_at: When an epoch was closed last, by the clock that cannot be set.
        awaits_peers: The engine waits for the cluster's other processes, as long as they need.
        kafka_away: Why no broker can be reached; None if one can, or none was asked.
    """

    def __init__(
        self, limits: LivenessLimits, monotonic: Callable[[], float], restores: Restores
    ) -> None:
        self._timeout_s = limits.timeout_s
        self._grace_s = max(limits.startup_grace_s, limits.timeout_s)
        self._peers_wait_s = limits.peers_wait_s if limits.processes > 1 else 0.0
        self._monotonic = monotonic
        self._restores = restores
        self._progress_at = monotonic()
        self._restored_at: float | None = None
        self._waits: dict[object, tuple[str, float]] = {}
        self.epoch_at: float | None = None
        self.awaits_peers = False
        self.kafka_away: str | None = None

    def epoch_closed(self) -> None:
        """Note that the flow made progress."""
        self.epoch_at = self._progress_at = self._monotonic()

    def kafka_answers(self) -> None:
        """Note that Kafka is there again."""
        self.kafka_away = None
        self._progress_at = self._monotonic()

    def peers_are_there(self) -> None:
        """Note that all processes of the cluster have started."""
        self.awaits_peers = False
        self._progress_at = self._monotonic()

    def restored(self) -> None:
        """Note that no restore is under way any more."""
        self._restored_at = self._progress_at = self._monotonic()

    def begin_wait(self, token: object, what: str, at_most_s: float) -> None:
        """Note that a wait begins, which ends by itself within `at_most_s` seconds."""
        self._waits[token] = (what, self._monotonic() + at_most_s)

    def end_wait(self, token: object) -> None:
        """Note that a wait is over."""
        del self._waits[token]
        self._progress_at = self._monotonic()

    def waits(self) -> list[str]:
        """Return what is waited for."""
        return sorted({what for what, _ in self._waits.values()})

    def live(self) -> tuple[bool, str]:
        """Return whether the flow makes progress, and why; False means "restart me"."""
        now = self._monotonic()
        idle_s = now - self._progress_at
        if idle_s <= self._timeout_s:
            return True, "making progress"
        if excuse := next(self._excuses(now, idle_s), None):
            return True, excuse
        overdue = self.waits()
        stuck = f", still waiting for {', '.join(overdue)}" if overdue else ""
        return False, f"no epoch closed for {idle_s:.0f} s (limit {self._timeout_s:g} s){stuck}"

    def _excuses(self, now: float, idle_s: float) -> Iterator[str]:
        """Yield why no epoch has closed for so long, where a restart would not help."""
        if self.epoch_at is None and idle_s <= self._grace_s:
            yield "starting"
        if self.awaits_peers:
            yield AWAITS_PEERS
        pending = {what for what, until in self._waits.values() if now <= until}
        if pending:
            yield f"waiting for {', '.join(sorted(pending))}"
        if (restored := self._restores.so_far).under_way and (
            idle_s <= self._restores.allowed_s
            or self._restores.has_advanced_since(now - self._timeout_s)
        ):
            yield str(restored)
        if self.kafka_away is not None:
            yield f"Kafka is unreachable: {self.kafka_away}"
        if self._peers_wait_s and idle_s <= self._timeout_s + self._peers_may_take_s():
            yield "waiting for the other processes of the cluster to close the epoch"

    def _peers_may_take_s(self) -> float:
        """Return how long after its own work a process may wait for the others."""
        restored_now = self._restored_at is not None and self._restored_at > (self.epoch_at or 0.0)
        return max(self._peers_wait_s, self._restores.allowed_s if restored_now else 0.0)
