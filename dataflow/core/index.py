"""The index of remembered ids: which paymentIds were seen, with what content, and where first.

One index per lane, in compact numpy arrays: 36 bytes an id in columns, and a hash table of row
numbers beside them. All work is done a batch at a time; the cost of a lookup does not depend on
how many ids are remembered.

An id lives as long as the latest dated *segment* it was seen in (see `dataflow.core.ledger`): a
repeat can prolong its life, never shorten it. Segments are forgotten whole. Rows of forgotten
segments are dead at once, and their space is taken back when a quarter of all rows is dead, so that
forgetting, too, costs the same per id however many there are.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.memory import Copies, Keys, Memory, Trail, Words, no_trail

_FREE = -1
_MIN_ROWS = 1024
_GROWTH = 1.25
_MAX_LOAD = 0.6
_MAX_DEAD = 0.25
_EPOCH_MS = 60_000

UNCLEAR = np.uint64(0)
"""The fingerprint of an id whose claimer is not certain: equal to none."""


class Verdict(IntEnum):
    """What the index knows of a request's paymentId."""

    FIRST = 0
    """Not remembered: this request claims the id."""
    DUPLICATE = 1
    """Remembered, with the same content."""
    CONFLICT = 2
    """Remembered, with other content."""


class Seen(NamedTuple):
    """The answer for a batch, in its order."""

    verdicts: NDArray[np.int8]
    """A `Verdict` for each."""
    first_origins: Words
    """The origin that claimed the id: its own for a `FIRST`."""


class Index:
    """Remembered ids of one lane. Not thread-safe: a lane has one owner."""

    def __init__(self) -> None:
        self._rows = 0
        self._dead = 0
        self._allocate(_MIN_ROWS)
        self._slots = _free_slots(_MIN_ROWS)
        # Segments are numbered as they come; `_alive` and `_members` are indexed by that number.
        self._numbers: dict[str, int] = {}
        self._alive = np.zeros(64, np.bool_)
        self._members = np.zeros(64, np.int64)
        self._dated_ms = np.zeros(64, np.int64)
        self._next_number = 0

    def __len__(self) -> int:
        """How many ids are remembered."""
        return self._rows - self._dead

    @property
    def nbytes(self) -> int:
        """Bytes of memory held by the arrays."""
        return self._slots.nbytes + sum(column.nbytes for column in self._columns())

    def observe(
        self, segment: str, dated_ms: int, keys: Keys, prints: Words, origins: Words
    ) -> Seen:
        """Judge a batch in its order, and remember it under `segment`.

        Args:
            segment: The segment that remembers this batch for recovery.
            dated_ms: The date of the segment, in milliseconds since 1970.
            keys: Hashes of the paymentIds.
            prints: Fingerprints of the contents; 0 is reserved, see `UNCLEAR`.
            origins: Where each request stands in the input, as one number.
        """
        rows, claims = self._enter(self._number(segment, dated_ms), keys, prints, origins)
        verdicts = np.where(
            self._prints[rows] == prints, np.int8(Verdict.DUPLICATE), np.int8(Verdict.CONFLICT)
        )
        verdicts[claims] = Verdict.FIRST
        return Seen(verdicts, self._origins[rows])

    def restore(
        self, memories: Sequence[Memory], trail: Trail = no_trail, epoch_ms: int = _EPOCH_MS
    ) -> None:
        """Fill the index, which must be empty, with what a previous run remembered.

        Of an id's copies on one partition, the one with the lowest offset came first; of those on
        several partitions the first to arrive. Where that is not certain, the trail tells which
        one claimed the id; and where it does not, and their contents differ, any later copy is a
        conflict: it must never pass for a duplicate of what was not published.

        Args:
            memories: In any order.
            trail: Asked at most once, and only about contested ids.
            epoch_ms: No epoch was longer, so copies that arrived further apart came in different
                ones, whose order is certain. The clocks of machines may differ by as much.
        """
        sizes = [len(memory.prints) for memory in memories]
        if not any(sizes):
            return
        numbers = [self._number(memory.segment, memory.dated_ms) for memory in memories]
        copies = Copies(memories, numbers, sizes, epoch_ms)
        claimers, contested = copies.claimers()
        rows = self._append(copies.keys[copies.firsts])
        self._origins[rows] = copies.origins[claimers]
        self._prints[rows] = copies.prints[claimers]
        told = copies.told(contested, trail)
        for each, claimer in told.items():
            if claimer is not None:
                self._origins[rows[each]] = copies.origins[claimer]
                self._prints[rows[each]] = copies.prints[claimer]
            elif copies.differ(each):
                self._prints[rows[each]] = UNCLEAR
        self._segments[rows[copies.ids]] = copies.segments  # of a repeated row, the last one counts
        by_date = copies.repeated_by_date(self._dated_ms)
        self._segments[rows[copies.ids[by_date]]] = copies.segments[by_date]
        np.add.at(self._members, self._segments[rows], 1)

    def forget(self, segment: str) -> None:
        """Drop every id that was seen in no newer segment."""
        number = self._numbers.pop(segment, None)
        if number is None:
            return
        self._alive[number] = False
        self._dead += int(self._members[number])
        self._members[number] = 0
        if self._dead > max(_MIN_ROWS, self._rows * _MAX_DEAD):
            self._compact()

    def _enter(
        self, number: int, keys: Keys, prints: Words, origins: Words
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Find or make the row of each key, and put it under segment `number`, if that lives on.

        Returns the row of each key, and where in the batch the ids stand that were claimed.
        """
        firsts, inverse = _distinct(keys)
        rows = self._find(keys[firsts])
        known = rows >= 0
        # A row of a forgotten segment is found, but it is not remembered: it is claimed anew.
        dead = known.copy()
        dead[known] = ~self._alive[self._segments[rows[known]]]
        self._dead -= int(np.count_nonzero(dead))
        fresh = ~known | dead
        rows[~known] = self._append(keys[firsts[~known]])
        claims = firsts[fresh]
        self._prints[rows[fresh]] = prints[claims]
        self._origins[rows[fresh]] = origins[claims]
        moved = fresh.copy()
        refreshed = rows[~fresh]
        moved[~fresh] = self._dated_ms[self._segments[refreshed]] <= self._dated_ms[number]
        np.subtract.at(self._members, self._segments[rows[moved & ~fresh]], 1)
        self._segments[rows[moved]] = number
        self._members[number] += np.count_nonzero(moved)
        return rows[inverse], claims

    def _number(self, segment: str, dated_ms: int) -> int:
        number = self._numbers.get(segment)
        if number is None:
            number = self._next_number
            self._next_number += 1
            if number == len(self._alive):
                self._alive = np.append(self._alive, np.zeros_like(self._alive))
                self._members = np.append(self._members, np.zeros_like(self._members))
                self._dated_ms = np.append(self._dated_ms, np.zeros_like(self._dated_ms))
            self._numbers[segment] = number
            self._alive[number] = True
        self._dated_ms[number] = max(int(self._dated_ms[number]), dated_ms)
        return number

    def _find(self, keys: Keys) -> NDArray[np.int64]:
        """The row of each key, or -1: linear probing, all keys of the batch in step."""
        found = np.full(len(keys), -1, np.int64)
        mask = len(self._slots) - 1
        pending = np.arange(len(keys))
        places = self._home(keys)
        while len(pending):
            rows = self._slots[places]
            taken = rows != _FREE
            pending, places, rows = pending[taken], places[taken], rows[taken]
            hit = (self._keys[rows] == keys[pending]).all(axis=1)
            found[pending[hit]] = rows[hit]
            pending, places = pending[~hit], (places[~hit] + 1) & mask
        return found

    def _home(self, keys: Keys) -> NDArray[np.int64]:
        # The first word chose the lane; the second one is still uniform within it.
        return (keys[:, 1] & np.uint64(len(self._slots) - 1)).astype(np.int64)

    def _append(self, keys: Keys) -> NDArray[np.int64]:
        """New rows for keys that have none."""
        start, self._rows = self._rows, self._rows + len(keys)
        if self._rows > len(self._keys):
            self._reserve(max(self._rows, int(len(self._keys) * _GROWTH)))
        self._keys[start : self._rows] = keys
        rows = np.arange(start, self._rows)
        if self._rows > len(self._slots) * _MAX_LOAD:
            self._slots = _free_slots(self._rows)
            rows_to_place = np.arange(self._rows)
        else:
            rows_to_place = rows
        self._place(rows_to_place)
        return rows

    def _place(self, rows: NDArray[np.int64]) -> None:
        """Put rows into the hash table: each claims a free slot, then looks whether it got it."""
        mask = len(self._slots) - 1
        places = self._home(self._keys[rows])
        while len(rows):
            free = self._slots[places] == _FREE
            self._slots[places[free]] = rows[free]
            lost = self._slots[places] != rows
            rows, places = rows[lost], (places[lost] + 1) & mask

    def _compact(self) -> None:
        """Give back the rows of forgotten segments."""
        keep = np.flatnonzero(self._alive[self._segments[: self._rows]])
        old = self._columns()
        self._rows, self._dead = len(keep), 0
        self._allocate(max(_MIN_ROWS, int(len(keep) * _GROWTH)))
        for column, kept in zip(self._columns(), old, strict=True):
            column[: self._rows] = kept[keep]
        self._slots = _free_slots(max(_MIN_ROWS, self._rows))
        self._place(np.arange(self._rows))
        self._renumber()

    def _renumber(self) -> None:
        """Number the living segments from 0 again, so that the numbers do not grow for ever."""
        living = list(self._numbers.values())
        size = max(64, 2 * len(living))
        moved = np.zeros(len(self._alive), np.uint32)
        moved[living] = np.arange(len(living))
        self._segments[: self._rows] = moved[self._segments[: self._rows]]
        members = np.zeros(size, np.int64)
        members[: len(living)] = self._members[living]
        alive = np.zeros(size, np.bool_)
        alive[: len(living)] = True
        dated_ms = np.zeros(size, np.int64)
        dated_ms[: len(living)] = self._dated_ms[living]
        self._members, self._alive, self._next_number = members, alive, len(living)
        self._dated_ms = dated_ms
        self._numbers = {name: number for number, name in enumerate(self._numbers)}

    def _allocate(self, rows: int) -> None:
        self._keys = np.empty((rows, 2), np.uint64)
        self._prints = np.empty(rows, np.uint64)
        self._origins = np.empty(rows, np.uint64)
        self._segments = np.empty(rows, np.uint32)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._keys, self._prints, self._origins, self._segments

    def _reserve(self, rows: int) -> None:
        old = self._columns()
        self._allocate(rows)
        for column, kept in zip(self._columns(), old, strict=True):
            column[: len(kept)] = kept


def _free_slots(rows: int) -> NDArray[np.int32]:
    """A table of free slots, a power of two, that `rows` fill at most to `_MAX_LOAD`."""
    size = 1
    while size * _MAX_LOAD < rows + 1:
        size *= 2
    return np.full(size, _FREE, np.int32)


def _distinct(keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each distinct key stands first, and for each key which distinct one it is."""
    _, firsts, inverse = np.unique(keys[:, 1], return_index=True, return_inverse=True)
    if not np.array_equal(keys[firsts][inverse, 0], keys[:, 0]):
        # Two keys share 64 of their 128 bits: compare them whole.
        _, firsts, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return firsts, inverse
