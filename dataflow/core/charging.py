"""The gateway, as the lanes and the sources of a process see it. No call waits for the provider."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, QueuedBatch

NOT_FOUND = "NotFound"
"""A look-up that has found no charge."""
REPLIES = (
    *("Approved", "Declined", "NotExecuted", "Unknown", "Pending", "Misconfigured"),
    NOT_FOUND,
)
"""The kinds of replies, as they are counted."""


class ChargingFigures(NamedTuple):
    """The state of the calls, for metrics and probes."""

    in_flight: int = 0
    queued: int = 0
    """Payments that wait for their first call."""
    waiting: int = 0
    """Payments that are to be asked for again later."""
    parked: int = 0
    window: int = 0
    """Calls that may be in flight."""
    mean_latency_s: float = 0.0
    held_for_s: float | None = None
    """The time for which the process has read nothing; None if it does not hold by itself."""
    hold_reason: str = ""
    is_full: bool = False
    """True if it holds because too much is parked, not because the gateway answers nobody."""
    times_held: int = 0
    replies: Mapping[str, int] = {}
    """Replies since the start, by kind."""


class LaneCharging(Protocol):
    """The gateway, as the lanes see it."""

    def ask(self, charges: Sequence[Charge]) -> None:
        """Have payments charged, each until there is a definite answer."""

    def ask_at_once(self, batches: Sequence[QueuedBatch]) -> bool:
        """Have batches charged as a whole; False if the gateway takes payments one by one only."""

    def answers(self, lane: int) -> deque[Answer | BatchAnswer]:
        """Return the answers for a lane, for it to take out."""

    def patience_s(self) -> float:
        """Return how long a lane should wait for an answer."""

    def note_claimed(self, lane: int, payments: int) -> None:
        """Note how many payments of a lane wait for their claim to be committed."""

    def peer_holds(self, partition: int, *, holds: bool) -> None:
        """Note that the process that reads a partition holds, or does so no longer."""


class SourceCharging(Protocol):
    """The gateway, as the sources see it.

    Attributes:
        sources: The input partitions of this process, which share its credit.
        has_peers: Whether there are lanes in other processes.
    """

    sources: set[int]
    has_peers: bool

    def credit(self, partition: int) -> int:
        """Return how many records the source of a partition may read now."""

    def to_wake(self, epoch: int) -> tuple[int, ...]:
        """Return the lanes of this process that have something to do in this epoch."""

    def lowest(self, partition: int) -> int | None:
        """Return below which offset of a partition no lane of this process has anything queued."""

    def patience_s(self) -> float:
        """Return how long a lane should wait for an answer."""

    def hold_to_announce(self) -> bool | None:
        """Return True if the other processes are to hold, False if not any longer, else None."""
