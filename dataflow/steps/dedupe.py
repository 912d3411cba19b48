"""dedupe: the verdict of the lane's index on each paymentId.

One state key for each lane. Its snapshot is empty: every run reads the index back from the lane's
log (`dataflow.core.lane_log`), or from files that are a cache of it (`dataflow.dedupe`), before the
lane decides anything.

Items carry the number of their epoch. The engine emits nothing of an epoch before the one before it
is closed everywhere, transactions included: so the first item of an epoch proves that all that was
judged before it is committed.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
from bytewax.operators import StatefulBatchLogic

from dataflow.core.fenced import Fenced
from dataflow.core.items import ControlMessage, DedupedBatch, LaneBatch, Remembered, Signal
from dataflow.core.lanes import split_identities
from dataflow.core.origins import are_same, origins
from dataflow.core.verdicts import Verdict
from dataflow.core.watermarks import Watermarks
from dataflow.dedupe.tiered import TieredIndex
from dataflow.observability import tracing
from dataflow.observability.tracing import Span
from dataflow.service.fail_fast import fail_fast

Reported = Callable[[int, int | None], None]
"""A callback with the number of a lane's index in this process, and how many ids it remembers; None
as long as the index is not built."""


Held = Callable[[int], Mapping[bytes, int]]
"""Returns what a lane has parked: identities of the requests (key and fingerprint), with the origin
of each."""


class Expiry(NamedTuple):
    """The rule by which an id is forgotten."""

    window_ms: int
    """So long after it was last read..."""
    partitions: Sequence[int]
    """... by the watermark of all these; ..."""
    held: Held = lambda _lane: {}
    """... but not while its payment is parked: a copy of it would be charged, too; ..."""
    oldest_s: Callable[[int], float | None] = lambda _lane: None
    """... nor while it is queued. Returns when the oldest of what a lane has queued was read."""


class Log(Protocol):
    """The log that the lanes' histories are read from.

    Attributes:
        generation: That of the request topic, for the claims of this run; see
            `dataflow.core.origins`.
    """

    generation: int

    def expect(self, lane: int, index: TieredIndex) -> None:
        """Register a lane of this process; its history goes into this index."""

    def restore(self, lane: int, fenced: Fenced) -> Mapping[int, int]:
        """Have the history in the index.

        Returns:
            How far each partition of the log was read.
        """

    def ends(self) -> Mapping[int, int]:
        """Return where each log partition ended at some earlier moment, as far as is known."""


class NoLog:
    """The log of a flow that has no past."""

    generation = 0

    def expect(self, lane: int, index: TieredIndex) -> None:
        """Take any lane."""

    def restore(self, _lane: int, _fenced: Fenced) -> Mapping[int, int]:
        """Return nothing: there is nothing."""
        return {}

    def ends(self) -> Mapping[int, int]:
        """Return nothing: it has no partitions."""
        return {}


class Dedupe(StatefulBatchLogic[LaneBatch | ControlMessage, DedupedBatch | ControlMessage, None]):
    """The index of one lane."""

    def __init__(
        self,
        number: int,
        remembered: Reported,
        log: Log,
        open_index: Callable[[int], TieredIndex],
        expiry: Expiry,
        max_bytes: int,
    ) -> None:
        self._number = number
        self._max_bytes = max_bytes
        self._remembered = remembered
        self._log = log
        self._open_index = open_index
        self._window_s = -(-expiry.window_ms // 1000)
        self._watermarks = Watermarks(expiry.partitions)
        self._expiry = expiry
        self._watermark_s = 0
        self._epoch = 0
        # Not before it is opened: the engine also makes lanes there were under another LANES.
        self._opened: TieredIndex | None = None
        # Not before it is read back.
        self._index: TieredIndex | None = None
        # Of the log: where it ended before the epoch, and how far the index has all of the lane.
        self._ends: Mapping[int, int] = {}
        self._known: Mapping[int, int] = {}
        self._has_judged = False  # in this epoch

    @classmethod
    def builder(
        cls,
        remembered: Reported,
        log: Log,
        open_index: Callable[[int], TieredIndex],
        expiry: Expiry,
        max_bytes: int,
    ) -> Callable[[None], "Dedupe"]:
        """Return the function that the engine calls for each lane.

        Args:
            remembered: Called once for each batch.
            log: Where the lane's history is read.
            open_index: Opens the index of a lane.
            expiry: When an id is forgotten.
            max_bytes: As for `decode`.
        """
        numbers = count()
        return lambda _resumed: cls(next(numbers), remembered, log, open_index, expiry, max_bytes)

    @fail_fast
    def on_batch(
        self, values: list[LaneBatch | ControlMessage]
    ) -> tuple[list[DedupedBatch | ControlMessage], bool]:
        """Take what one epoch has for this lane, in order."""
        out: list[DedupedBatch | ControlMessage] = []
        for item in values:
            if item.epoch > self._epoch:
                self._epoch = item.epoch
                if self._index is not None:
                    self._mark_committed(self._index)
            out.append(self._judge(item) if isinstance(item, LaneBatch) else self._obey(item))
        self._remembered(self._number, None if self._index is None else len(self._index))
        return out, self.RETAIN

    def _mark_committed(self, index: TieredIndex) -> None:
        """Mark that what was judged in earlier epochs is committed.

        Where the log ends now is too far, as this process may be fenced and not have noticed: then
        the next one has written there what this one has not seen. But a lane that has committed an
        epoch was not fenced when that began, so up to where the log ended then, it has all.
        """
        if self._has_judged:
            self._known = self._ends
        self._ends, self._has_judged = self._log.ends(), False
        index.committed(self._known)

    def _obey(self, control: ControlMessage) -> ControlMessage:
        if control.signal is Signal.OPEN and self._opened is None:
            self._opened = self._open_index(control.lane)
            self._log.expect(control.lane, self._opened)
        if control.fenced and self._index is None:
            self._ends = self._known = self._log.restore(control.lane, control.fenced)
            self._index = self._opened
        if control.time_ms:
            self._watermarks.announce(control.partition, control.time_ms)
            self._watermark_s = self._watermarks.least_ms() // 1000
        if self._index is None:
            return control
        # Only it brings a later time; other signals may not reach the log, with what they carry.
        is_later = control.signal is Signal.WATERMARK
        entries = self._prolong_held(control.lane, self._index) if is_later else b""
        before_s = self._watermark_s - self._window_s
        oldest_s = self._expiry.oldest_s(control.lane)
        self._index.expire(before_s if oldest_s is None else min(before_s, int(oldest_s)))
        return replace(control, remembered=_remembered_by(self._index), entries=entries)

    def _prolong_held(self, lane: int, index: TieredIndex) -> bytes:
        """Prolong the life of what waits for the gateway, as if it was read again."""
        held = self._expiry.held(lane)
        if not held:
            return b""
        keys, fingerprints = split_identities(b"".join(held))
        origins = np.fromiter(held.values(), np.uint64, len(held))
        entries = index.observe(self._watermark_s, keys, fingerprints, origins).entries
        self._has_judged |= len(entries) > 0
        return entries.tobytes()

    def _judge(self, batch: LaneBatch) -> DedupedBatch:
        if self._index is None:
            # To decide without its history may charge twice: better no decision.
            raise RuntimeError("a batch came to a lane that has not read its log")
        began_ns = time.time_ns()
        # A clock that was set back makes no id older than what is forgotten next.
        date_s = max(int(batch.read_at), self._watermark_s)
        self._has_judged = True
        keys, fingerprints = split_identities(batch.identities)
        own = origins(batch.partition, batch.offsets[batch.valid], self._log.generation)
        seen = self._index.observe(date_s, keys, fingerprints, own)
        verdicts = np.zeros(len(batch.values), np.int8)
        verdicts[batch.valid] = seen.verdicts
        # What a run before this one has claimed, and not decided, is still the first. Not if it
        # has other content now, or is of a topic that was created again: it is another record.
        repeats = np.flatnonzero(seen.verdicts == Verdict.DUPLICATE)
        again = batch.valid[repeats[are_same(seen.first_origins[repeats], own[repeats])]]
        verdicts[again] = Verdict.FIRST
        firsts = np.zeros(len(batch.values), np.uint64)
        firsts[batch.valid] = seen.first_origins
        if batch.headers:
            tracing.record(Span.DEDUPE, batch.headers.values(), began_ns)
        return DedupedBatch(
            partition=batch.partition,
            next_offset=batch.next_offset,
            read_at=batch.read_at,
            offsets=batch.offsets.tolist(),
            times_ms=batch.times_ms,
            parsed=batch.requests(self._max_bytes),
            verdicts=verdicts.tolist(),
            first_origins=firsts.tolist(),
            entries=seen.entries.tobytes(),
            remembered=_remembered_by(self._index),
            epoch=batch.epoch,
            claimed_before=frozenset(again.tolist()),
            headers=batch.headers,
        )

    def snapshot(self) -> None:
        """Return nothing: see above."""


def _remembered_by(index: TieredIndex) -> Remembered:
    return Remembered(len(index), index.since_s)
