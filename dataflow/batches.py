"""What travels between the steps: a few large items, cheap to pickle.

Between processes every item is pickled, so items hold bytes, lists of bytes and numpy arrays.
Parsed requests are kept only inside one process and parsed again elsewhere, which is cheaper than
pickling them.

Besides the records there are signals. They take the same way as the records, so that the order of
epochs holds for them too.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflow.core.decide import Outcome
from dataflow.tally import Tally
from schemas.events import Source
from schemas.parsing import parse
from schemas.requests import PaymentRequest, Rejected

# ---- from the source ----


@dataclass(slots=True, frozen=True)
class Fetched:
    """Consecutive records of one input partition."""

    partition: int
    segment: str
    """The segment that remembers their ids."""
    dated_ms: int
    """Time of the segment's newest record, in milliseconds since 1970."""
    offsets: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    """The records' timestamps, in milliseconds since 1970."""
    values: list[bytes | None]
    next_offset: int
    read_at: float
    """When they were read, in seconds since 1970."""
    committed: dict[int, int] = field(default_factory=dict)
    """Of a replay: the next offset that each lane has not committed yet."""
    recall: bool = False
    """Only for the index, and only what is committed; all of it comes again in the next epoch."""


@dataclass(slots=True, frozen=True)
class Restore:
    """Hand out what a segment remembers below `end_offset`."""

    partition: int
    segment: str
    dated_ms: int
    end_offset: int
    records: int
    """Records of the segment; if there are any, recovery must know it."""
    sealed: bool = False
    """Whether nothing is added to it any more."""


@dataclass(slots=True, frozen=True)
class Seal:
    """A segment is full: nothing is added to it any more."""

    segment: str


@dataclass(slots=True, frozen=True)
class Forget:
    """A segment has left the dedupe window."""

    segment: str


class Signal(Enum):
    """What the source tells every lane."""

    OPEN = auto()
    """A run begins: be built, and so fence the previous run."""
    RESTORED = auto()
    """All that the previous run knew has been handed out: decide from here on."""
    BEAT = auto()
    """Nothing new for a long time: commit the position again, before Kafka expires it."""
    TIME = auto()
    """How far the partition's records have come: the last one decides what is forgotten."""
    DRAIN = auto()
    """A process of the cluster was told to stop: all of them do."""
    RESTART = auto()
    """As `DRAIN`, but all of them start again."""


@dataclass(slots=True, frozen=True)
class Told:
    """A signal from the source of one partition, which stands at `next_offset`."""

    signal: Signal
    partition: int
    next_offset: int
    time_ms: int = 0
    """The partition's stream time, in milliseconds since 1970."""


# ---- to remember ----


@dataclass(slots=True, frozen=True)
class Identities:
    """The ids of a `Fetched`, for its segment."""

    first_offset: int
    offsets: NDArray[np.int64]
    identities: bytes
    arrived_ms: int


# ---- to the lanes ----


@dataclass(slots=True)
class LaneBatch:
    """The records of a `Fetched` that belong to one lane."""

    partition: int
    segment: str
    dated_ms: int
    recall: bool
    next_offset: int
    """Of the whole `Fetched`: all records of this lane below it are in here, or came before."""
    committed: int
    """Records below this offset are committed already: remember them, publish nothing."""
    read_at: float
    max_bytes: int
    offsets: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    values: list[bytes | None]
    valid: NDArray[np.int64]
    """Which of the records are valid requests."""
    identities: bytes
    """Of the valid ones."""
    parsed: list[PaymentRequest | Rejected] = field(default_factory=list)

    def __getstate__(self) -> dict[str, Any]:
        """All but what the receiving process can make again."""
        state = {name: getattr(self, name) for name in self.__slots__}
        return state | {"parsed": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def requests(self) -> list[PaymentRequest | Rejected]:
        """The records, parsed."""
        if not self.parsed:
            self.parsed = [parse(value, self.max_bytes) for value in self.values]
        return self.parsed


# ---- from dedupe on ----


@dataclass(slots=True)
class Judged:
    """A lane's records that are not committed yet, and what the index knew of their ids."""

    partition: int
    next_offset: int
    read_at: float
    offsets: list[int]
    times_ms: NDArray[np.int64]
    verdicts: list[int]
    first_origins: list[int]
    parsed: list[PaymentRequest | Rejected]


@dataclass(slots=True)
class Decided:
    """A lane's records and their outcomes, in aligned lists."""

    partition: int
    next_offset: int
    times_ms: NDArray[np.int64]
    event_ids: list[str]
    sources: list[Source]
    outcomes: list[Outcome]
    decided_at: float
    """In seconds since 1970."""


# ---- to the sink ----


@dataclass(slots=True)
class Outgoing:
    """Records of one output topic that a lane writes in one transaction with the rest of an epoch.

    The audit topic, which has a record for every input record, also carries the lane's position.
    """

    topic: str
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    """Next offset of each input partition once this is committed."""
    tally: Tally = field(default_factory=Tally)
    times_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Timestamps of the input records, for the latency until they are visible."""
    told: Told | None = None
