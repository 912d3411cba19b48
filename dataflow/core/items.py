"""The items that travel between the steps: a few large ones, cheap to pickle.

Between processes every item is pickled, so items hold bytes, lists of bytes and numpy arrays.
Parsed requests are kept only inside one process and parsed again elsewhere, which is cheaper than
pickling them.

Besides the records there are signals. They take the same way as the records, so that the order of
epochs holds for them too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.commit_counts import CommitCounts
from dataflow.core.decision import Outcome
from dataflow.core.fenced import Fenced
from schemas.events import Resolution, Source
from schemas.headers import Headers
from schemas.parsing import parse
from schemas.pending import PendingEntry
from schemas.requests import PaymentRequest, Rejected

# ---- from the source ----


@dataclass(slots=True, frozen=True)
class RecordBatch:
    """Consecutive records of one input partition."""

    partition: int
    offsets: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    """The records' timestamps, in milliseconds since 1970."""
    values: list[bytes | None]
    next_offset: int
    read_at: float
    """The time they were read, in seconds since 1970."""
    epoch: int = 0
    """The number of epochs of this run that ended before; the same for all partitions."""
    committed: dict[int, int] = field(default_factory=dict)
    """Of records that are read again: the next offset that each lane has not committed yet. What
    is below it is in the lane's log."""
    headers: Mapping[int, Headers] = field(default_factory=dict)
    """By offset, what is passed on of those records that have it."""
    refused: dict[int, Rejected] = field(default_factory=dict)
    """Those that cannot be read for another reason than their bytes alone, by their number."""


class Signal(Enum):
    """A signal from the source to every lane."""

    OPEN = auto()
    """A run begins: be built, and so fence the previous run."""
    RESTORE = auto()
    """All lanes are open: read back what the previous runs have committed, and decide from then
    on."""
    REFRESH_OFFSETS = auto()
    """Commit the position, even if it is the same as before: every lane is to have one, and Kafka
    must not expire it. With it, a record that is stamped by our clock."""
    WATERMARK = auto()
    """The progress of reading the partition, by our clock: decides which ids are forgotten."""
    DRAIN = auto()
    """A process of the cluster was asked to stop: all of them do. Of this partition nothing more
    comes: what has no answer is parked."""
    RESTART = auto()
    """As `DRAIN`, but all of them start again."""
    WAKE = auto()
    """The lane has something to do: answers have come, a wait for one is over, or its claims are
    committed, as an item of this epoch proves."""
    FLUSH = auto()
    """Of this partition everything below `next_offset` is to be emitted, answered or parked: the
    position moves past it with this epoch."""
    HOLD = auto()
    """A process of the cluster has lost the provider: no source reads on."""
    RESUME = auto()
    """That process has it back."""


class Remembered(NamedTuple):
    """The ids that a lane remembers, as they are committed with its offsets.

    It is what a start measures the lane's log by: a log that holds less has lost entries.
    """

    ids: int
    since_s: int
    """None of them was last seen before, in seconds since 1970."""


@dataclass(slots=True, frozen=True)
class ControlMessage:
    """A signal from the source of one partition, which stands at `next_offset`."""

    signal: Signal
    partition: int
    next_offset: int
    time_ms: int = 0
    """The partition's watermark, in milliseconds since 1970; 0 if it is not known."""
    epoch: int = 0
    """As in `RecordBatch`."""
    lanes: tuple[int, ...] | None = None
    """The lanes that get it; None for all."""
    lane: int = -1
    """The lane that gets it, from `decode` on."""
    fenced: Fenced | None = None
    """With `RESTORE`."""
    remembered: Remembered | None = None
    """By that lane, from `dedupe` on."""
    entries: bytes = b""
    """For the lane's log, likewise: they keep ids alive whose payments wait for the gateway."""


# ---- to the lanes ----


@dataclass(slots=True)
class LaneBatch:
    """The records of a `RecordBatch` that belong to one lane."""

    partition: int
    next_offset: int
    """Of the whole `RecordBatch`: all records of this lane below it are in here, or came before."""
    read_at: float
    epoch: int
    offsets: NDArray[np.int64]
    times_ms: NDArray[np.int64]
    values: list[bytes | None]
    valid: NDArray[np.int64]
    """The records that are valid requests."""
    identities: bytes
    """Of the valid ones."""
    headers: Mapping[int, Headers] = field(default_factory=dict)
    """As in `RecordBatch`."""
    parsed: list[PaymentRequest | Rejected] = field(default_factory=list)
    refused: dict[int, Rejected] = field(default_factory=dict)
    """As in `RecordBatch`."""

    def __getstate__(self) -> dict[str, Any]:
        """Return all but what the receiving process can make again."""
        state = {name: getattr(self, name) for name in self.__slots__}
        return state | {"parsed": []}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def requests(self, max_bytes: int) -> list[PaymentRequest | Rejected]:
        """Return the records, parsed; `max_bytes` is that of `decode`."""
        if not self.parsed:
            self.parsed = parse_all(self.values, self.refused, max_bytes)
        return self.parsed


def parse_all(
    values: Sequence[bytes | None], refused: Mapping[int, Rejected], max_bytes: int
) -> list[PaymentRequest | Rejected]:
    """Return the records of a batch, parsed; `refused` as in `RecordBatch`."""
    parsed = [parse(value, max_bytes) for value in values]
    for number, rejected in refused.items():
        parsed[number] = rejected
    return parsed


# ---- from dedupe on ----


@dataclass(slots=True)
class DedupedBatch:
    """A lane's records, and what the index knew of their ids."""

    partition: int
    next_offset: int
    read_at: float
    offsets: list[int]
    times_ms: NDArray[np.int64]
    verdicts: list[int]
    first_origins: list[int]
    parsed: list[PaymentRequest | Rejected]
    entries: bytes
    """The entries for the lane's log: see `dataflow.core.lane_log`."""
    remembered: Remembered
    epoch: int = 0
    """As in `RecordBatch`."""
    claimed_before: frozenset[int] = frozenset()
    """The records that a run before this one has claimed, and may have charged."""
    headers: Mapping[int, Headers] = field(default_factory=dict)
    """As in `RecordBatch`."""


@dataclass(slots=True)
class PendingChange:
    """A record for the pending topic, or its tombstone."""

    event_id: str
    entry: PendingEntry | None
    """None once the payment has its outcome."""
    is_new: bool = False
    """True if it is parked by this."""
    headers: Headers = field(default_factory=list)
    """Those of its request that are passed on."""


@dataclass(slots=True)
class OutcomeBatch:
    """The part that a lane publishes at once: outcomes of records, and what goes with them.

    Usually those of one batch of records, whose position it carries. The claims of a batch go ahead
    of it, without any outcome; and an outcome of what was parked has no position.
    """

    position: tuple[int, int] | None = None
    """An input partition, and its next offset; None if it carries no position."""
    times_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    event_ids: list[str] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    decided_at: float = 0.0
    """In seconds since 1970."""
    entries: bytes = b""
    remembered: Remembered | None = None
    pending: list[PendingChange] = field(default_factory=list)
    resolutions: dict[str, Resolution] = field(default_factory=dict)
    """By eventId, of the outcomes that a person has decided."""
    decisions_done: list[str] = field(default_factory=list)
    """The eventIds of payments whose decision by a person is over, with or without effect."""
    headers: dict[str, Headers] = field(default_factory=dict)
    """By eventId, what is passed on of those requests that have it."""

    def with_headers(self) -> list[tuple[int | None, Headers]]:
        """Return the headers of those requests that have any, as `LaneProgress` has them."""
        if not self.headers and not self.pending:
            return []
        times_ms = zip(self.event_ids, self.times_ms.tolist(), strict=True)
        decided = [(at, self.headers[each]) for each, at in times_ms if each in self.headers]
        return decided + [(None, change.headers) for change in self.pending if change.headers]


# ---- to the sink ----


@dataclass(slots=True)
class OutputBatch:
    """Records of one output topic, which a lane writes in the transaction of an epoch."""

    topic: str
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)
    tombstones: list[bytes] = field(default_factory=list)
    """Keys of records without a value, which are written after the others."""
    headers: list[Headers] = field(default_factory=list)
    """Aligned with the values; empty if none of them has any."""


@dataclass(slots=True)
class LaneProgress:
    """The rest of what a lane commits in that transaction; or a signal, with or without that."""

    position: tuple[int, int] | None = None
    """An input partition, and its next offset once this is committed."""
    counts: CommitCounts = field(default_factory=CommitCounts)
    times_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Timestamps of the input records, for the latency until they are visible."""
    entries: bytes = b""
    """The entries for the lane's log."""
    remembered: Remembered | None = None
    """The ids that the lane remembers once this is committed."""
    traced: list[tuple[int | None, Headers]] = field(default_factory=list)
    """Of the records that are passed on with headers: these, and the timestamp; None for what is
    parked, and has no outcome yet."""
    control: ControlMessage | None = None


SourceItem = RecordBatch | ControlMessage
"""An item that the source emits."""


LaneItem = tuple[str, LaneBatch | ControlMessage]
"""By lane, what `dedupe` takes."""


SinkItem = OutputBatch | LaneProgress
"""An item that a lane of the sink takes."""
