"""The gateway, as the lanes and the sources of a process see it. No call waits for the provider."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from dataflow.core.hold import HoldCause
from dataflow.core.lane_queue import Answer, BatchAnswer, Charge, QueuedBatch
from schemas.decisions import PersonsDecision

NOT_FOUND = "NotFound"
"""A look-up that has found no charge."""
REPLIES = (
    *("Approved", "Declined", "NotExecuted", "Unknown", "Pending", "Misconfigured"),
    NOT_FOUND,
)
"""The kinds of replies, as they are counted."""


class CallKind(StrEnum):
    """The kinds of calls, as they are counted."""

    CHARGE = "charge"
    LOOK_UP = "look_up"
    PROBE = "probe"


class Durations(NamedTuple):
    """The durations of calls, as a histogram."""

    buckets: Sequence[tuple[str, float]] = ()
    """The upper bounds in seconds, each with how many calls took no longer."""
    sum_s: float = 0.0
    examples: Mapping[str, "Example"] = {}
    """A traced one of a bucket, by its upper bound."""


class Example(NamedTuple):
    """A duration whose payment is traced."""

    seconds: float
    trace_id: str
    at_s: float
    """In seconds since 1970."""


class ChargingFigures(NamedTuple):
    """The state of the calls, for metrics and probes."""

    in_flight: int = 0
    queued: int = 0
    """Payments that wait for their first call."""
    waiting: int = 0
    """Payments that are to be asked for again later."""
    parked: int = 0
    parked_most: int = 0
    """With so many the process holds."""
    oldest_parked_for_s: float | None = None
    """The age of the oldest of the parked; None if there is none."""
    unresolved: int = 0
    """Those of the parked that a person has to decide."""
    window: int = 0
    """Calls that may be in flight."""
    rate_limit: float | None = None
    """Calls in a second that may begin; None for no limit."""
    mean_latency_s: float = 0.0
    hold_cause: HoldCause | None = None
    """The reason why the process reads nothing; None if it reads."""
    held_for_s: float | None = None
    """The time for which it has read nothing; None if it reads."""
    hold_reason: str = ""
    """The provider's last reason, or our own; empty if the process reads."""
    times_held: int = 0
    """The number of times that the gateway was taken to be away."""
    calls: Mapping[CallKind, int] = {}
    """Calls since the start, by kind."""
    replies: Mapping[str, int] = {}
    """Replies since the start, by kind."""
    key_replays: int = 0
    """Charges under a key that may have been used before."""
    durations: Mapping[bool, Durations] = {}
    """The durations of the calls: of those with a definite answer, and of the others."""


class LaneCharging(Protocol):
    """The gateway, as the lanes see it."""

    def charge(self, charges: Sequence[Charge]) -> None:
        """Have payments charged, each until there is a definite answer."""

    def charge_batches(self, batches: Sequence[QueuedBatch]) -> bool:
        """Have batches charged as a whole; False if the gateway takes payments one by one only."""

    def answers(self, lane: int) -> deque[Answer | BatchAnswer]:
        """Return the answers for a lane, for it to take out."""

    def park_after_s(self) -> float:
        """Return how long a lane should wait for an answer."""

    def decide(self, charge: Charge, decision: PersonsDecision) -> None:
        """Carry out a person's decision about what is parked, if the provider does not answer."""

    def note_claimed(self, lane: int, payments: int) -> None:
        """Note how many payments of a lane wait for their claim to be committed."""

    def peer_holds(self, partition: int, *, holds: bool) -> None:
        """Note that the process that reads a partition holds, or does so no longer."""


class SourceCharging(Protocol):
    """The gateway, as the sources see it.

    Attributes:
        sources: The input partitions of this process, which share its credit.
        has_peers: Whether there are lanes in other processes.
        is_one_by_one: Whether payments are charged one by one, each in its time.
    """

    sources: set[int]
    has_peers: bool
    is_one_by_one: bool

    def credit(self, partition: int) -> int:
        """Return how many records the source of a partition may read now."""

    def to_wake(self, epoch: int) -> tuple[int, ...]:
        """Return the lanes of this process that have something to do in this epoch."""

    def lowest(self, partition: int) -> int | None:
        """Return below which offset of a partition no lane of this process has anything queued."""

    def park_after_s(self) -> float:
        """Return how long a lane should wait for an answer."""

    def wake(self, lanes: Iterable[int]) -> None:
        """Wake lanes of this process in the next epoch."""

    def hold_to_announce(self) -> bool | None:
        """Return True if the other processes are to hold, False if not any longer, else None."""
