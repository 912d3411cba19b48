"""dedupe: what the lane's index knows of each paymentId.

One state key for each lane. Its snapshot is empty: the index is in memory, and every run reads it
back from the lane's log (`dataflow.core.lane_log`), before the lane decides anything.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count
from typing import NamedTuple, Protocol

import numpy as np
from bytewax.operators import StatefulBatchLogic

from dataflow.batches import Judged, LaneBatch, Remembered, Signal, Told
from dataflow.core.index import Index
from dataflow.core.lane_log import ENTRY, Entries
from dataflow.core.lanes import split_identities
from dataflow.core.origins import origins
from dataflow.core.watermarks import Watermarks
from dataflow.faults import reported

Reported = Callable[[int, int | None], None]
"""Told the number of a lane's index in this process, and how many ids it remembers; None as long
as the index is not built."""

_SPANS = 16
"""A bucket of the index spans this fraction of the window: an id lives as much longer, at most."""


class History(NamedTuple):
    """What the previous runs have committed of a lane's memory."""

    entries: Entries
    since_s: int
    """What was last seen before was forgotten, in seconds since 1970."""


class Log(Protocol):
    """Where the lanes' histories are read."""

    def expect(self, lane: int) -> None:
        """This lane is one of this process, and will ask."""

    def history(self, lane: int) -> History:
        """The history of one lane; only once, and only after every lane of the run is open."""

    def check(self, lane: int, ids: int) -> None:
        """Refuse a history that has so few ids that it cannot be whole."""


class NoLog:
    """The log of a flow that has no past."""

    def expect(self, lane: int) -> None:
        """Take any lane."""

    def history(self, lane: int) -> History:  # noqa: ARG002  (the same for all)
        """Nothing."""
        return History(np.empty(0, ENTRY), 0)

    def check(self, lane: int, ids: int) -> None:
        """Nothing is missing."""


class Dedupe(StatefulBatchLogic[LaneBatch | Told, Judged | Told, None]):
    """The index of one lane."""

    def __init__(
        self, number: int, remembered: Reported, log: Log, window_ms: int, partitions: Sequence[int]
    ) -> None:
        self._number = number
        self._remembered = remembered
        self._log = log
        self._window_s = -(-window_ms // 1000)
        self._watermarks = Watermarks(partitions)
        self._watermark_s = 0
        # Not before it is read back: the engine also makes lanes there were under another LANES.
        self._index: Index | None = None

    @classmethod
    def builder(
        cls, remembered: Reported, log: Log, window_ms: int, partitions: Sequence[int]
    ) -> Callable[[None], "Dedupe"]:
        """What the engine calls for each lane.

        Args:
            remembered: Called once for each batch.
            log: Where the lane's history is read.
            window_ms: For how long an id is remembered.
            partitions: All input partitions, whose watermarks decide what is forgotten.
        """
        numbers = count()
        return lambda _resumed: cls(next(numbers), remembered, log, window_ms, partitions)

    @reported
    def on_batch(self, values: list[LaneBatch | Told]) -> tuple[list[Judged | Told], bool]:
        """Take what one epoch has for this lane, in order."""
        out = [
            self._judge(item) if isinstance(item, LaneBatch) else self._hear(item)
            for item in values
        ]
        self._remembered(self._number, None if self._index is None else len(self._index))
        return out, self.RETAIN

    def _hear(self, told: Told) -> Told:
        if told.signal is Signal.OPEN:
            self._log.expect(told.lane)
        if told.signal is Signal.RESTORE and self._index is None:
            self._index = Index(max(1, self._window_s // _SPANS))
            self._index.load(*self._log.history(told.lane))
            self._log.check(told.lane, len(self._index))
        if told.time_ms:
            self._watermarks.announce(told.partition, told.time_ms)
            self._watermark_s = self._watermarks.least_ms() // 1000
        if self._index is None:
            return told
        self._index.expire(self._watermark_s - self._window_s)
        return replace(told, remembered=_remembered_by(self._index))

    def _judge(self, batch: LaneBatch) -> Judged:
        if self._index is None:
            # To decide without its history may charge twice: better no decision.
            raise RuntimeError("a batch came to a lane that has not read its log")
        # A clock that was set back makes no id older than what is forgotten next.
        date_s = max(int(batch.read_at), self._watermark_s)
        keys, prints = split_identities(batch.identities)
        seen = self._index.observe(
            date_s, keys, prints, origins(batch.partition, batch.offsets[batch.valid])
        )
        verdicts = np.zeros(len(batch.values), np.int8)
        verdicts[batch.valid] = seen.verdicts
        firsts = np.zeros(len(batch.values), np.uint64)
        firsts[batch.valid] = seen.first_origins
        return Judged(
            partition=batch.partition,
            next_offset=batch.next_offset,
            read_at=batch.read_at,
            offsets=batch.offsets.tolist(),
            times_ms=batch.times_ms,
            parsed=batch.requests(),
            verdicts=verdicts.tolist(),
            first_origins=firsts.tolist(),
            entries=seen.entries.tobytes(),
            remembered=_remembered_by(self._index),
        )

    def snapshot(self) -> None:
        """Nothing: see above."""


def _remembered_by(index: Index) -> Remembered:
    return Remembered(len(index), index.since_s)
