"""The index of remembered ids: which paymentIds were seen, with what content, and where first.

One index per lane, in compact numpy arrays: 36 bytes an id in columns, and a hash table of row
numbers beside them. All work is done a batch at a time; the cost of a lookup does not depend on
how many ids are remembered.

An id lives as long as the *bucket* of the latest date it was seen at: a repeat can prolong its
life, never shorten it. Buckets are forgotten whole, so an id lives at most a bucket's span longer
than it must. Rows of forgotten buckets are dead at once, and their space is taken back when a
quarter of all rows is dead, so that forgetting, too, costs the same per id however many there are.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.lane_log import Entries, entries_of, newest
from dataflow.core.lanes import Keys, Words

_FREE = -1
_MIN_ROWS = 1024
_GROWTH = 1.25
_MAX_LOAD = 0.6
_MAX_DEAD = 0.25


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
    entries: Entries
    """What is to be kept of the batch: the ids it claimed, and those whose life it prolonged."""


class Index:
    """Remembered ids of one lane. Not thread-safe: a lane has one owner.

    Args:
        span_s: How many seconds a bucket spans.

    Attributes:
        since_s: Every id that is remembered was seen at or after this time, in seconds since 1970.
    """

    def __init__(self, span_s: int = 1) -> None:
        self.since_s = 0
        self._span_s = span_s
        self._rows = 0
        self._dead = 0
        self._allocate(_MIN_ROWS)
        self._slots = _free_slots(_MIN_ROWS)
        # Buckets are numbered as they come; the arrays are indexed by that number.
        self._numbers: dict[int, int] = {}
        self._alive = np.zeros(64, np.bool_)
        self._members = np.zeros(64, np.int64)
        self._buckets = np.zeros(64, np.int64)
        self._next_number = 0

    def __len__(self) -> int:
        """How many ids are remembered."""
        return self._rows - self._dead

    @property
    def nbytes(self) -> int:
        """Bytes of memory held by the arrays."""
        return self._slots.nbytes + sum(column.nbytes for column in self._columns())

    def observe(self, date_s: int, keys: Keys, prints: Words, origins: Words) -> Seen:
        """Judge a batch in its order, and remember it.

        Args:
            date_s: When it was read, in seconds since 1970.
            keys: Hashes of the paymentIds.
            prints: Fingerprints of the contents.
            origins: Where each request stands in the input, as one number.
        """
        date_s = max(date_s, self.since_s)
        rows, claims, prolonged = self._enter(self._number(date_s // self._span_s), keys, origins)
        claimed = rows[claims]
        self._prints[claimed] = prints[claims]
        verdicts = np.where(
            self._prints[rows] == prints, np.int8(Verdict.DUPLICATE), np.int8(Verdict.CONFLICT)
        )
        verdicts[claims] = Verdict.FIRST
        kept = np.concatenate([claimed, prolonged]) if len(prolonged) else claimed
        entries = entries_of(self._keys[kept], self._prints[kept], self._origins[kept], date_s)
        return Seen(verdicts, self._origins[rows], entries)

    def load(self, entries: Entries, since_s: int = 0) -> None:
        """Fill the index, which must be empty, with entries that are not older than `since_s`."""
        # Not the start of its bucket, which spans more than before if the window was made longer:
        # what was forgotten may be trimmed from the log, so that it must never count again.
        self.since_s = since_s
        entries = newest(entries)
        if len(entries) and entries["date_s"].min() < self.since_s:
            entries = entries[entries["date_s"] >= self.since_s]
        buckets, inverse = np.unique(entries["date_s"] // self._span_s, return_inverse=True)
        numbers = np.array([self._number(bucket) for bucket in buckets.tolist()], np.uint32)
        self._reserve(int(len(entries) * _GROWTH))
        rows = self._append(np.ascontiguousarray(entries["key"]))
        self._prints[rows] = entries["fingerprint"]
        self._origins[rows] = entries["origin"]
        self._numbers_of[rows] = numbers[inverse]
        self._members[: self._next_number] = np.bincount(
            self._numbers_of[rows], minlength=self._next_number
        )

    def expire(self, before_s: int) -> None:
        """Forget every id that was not seen since `before_s`, except for a part of a bucket."""
        self.since_s = max(self.since_s, before_s // self._span_s * self._span_s)
        for bucket in [each for each in self._numbers if (each + 1) * self._span_s <= self.since_s]:
            number = self._numbers.pop(bucket)
            self._alive[number] = False
            self._dead += int(self._members[number])
            self._members[number] = 0
        if self._dead > max(_MIN_ROWS, self._rows * _MAX_DEAD):
            self._compact()

    def _enter(
        self, number: int, keys: Keys, origins: Words
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Find or make the row of each key, and put it into bucket `number`, if that lives longer.

        Returns the row of each key, where in the batch the ids stand that were claimed, and the
        rows of those whose life was prolonged.
        """
        firsts, inverse = _distinct(keys)
        rows = self._find(keys[firsts])
        known = rows >= 0
        # A row of a forgotten bucket is found, but it is not remembered: it is claimed anew.
        dead = known.copy()
        dead[known] = ~self._alive[self._numbers_of[rows[known]]]
        self._dead -= int(np.count_nonzero(dead))
        fresh = ~known | dead
        rows[~known] = self._append(keys[firsts[~known]])
        claims = firsts[fresh]
        self._origins[rows[fresh]] = origins[claims]
        repeated = rows[~fresh]
        numbers = self._numbers_of[repeated]
        prolonged = repeated[self._buckets[numbers] < self._buckets[number]]
        np.subtract.at(self._members, self._numbers_of[prolonged], 1)
        self._numbers_of[prolonged] = number
        self._numbers_of[rows[fresh]] = number
        self._members[number] += len(prolonged) + len(claims)
        return rows[inverse], claims, prolonged

    def _number(self, bucket: int) -> int:
        number = self._numbers.get(bucket)
        if number is None:
            number = self._next_number
            self._next_number += 1
            if number == len(self._alive):
                self._alive = np.append(self._alive, np.zeros_like(self._alive))
                self._members = np.append(self._members, np.zeros_like(self._members))
                self._buckets = np.append(self._buckets, np.zeros_like(self._buckets))
            self._numbers[bucket] = number
            self._alive[number] = True
            self._buckets[number] = bucket
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
            same = self._keys[rows] == keys[pending]
            hit = same[:, 0] & same[:, 1]
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
        """Give back the rows of forgotten buckets."""
        keep = np.flatnonzero(self._alive[self._numbers_of[: self._rows]])
        old = self._columns()
        self._rows, self._dead = len(keep), 0
        self._allocate(max(_MIN_ROWS, int(len(keep) * _GROWTH)))
        for column, kept in zip(self._columns(), old, strict=True):
            column[: self._rows] = kept[keep]
        self._slots = _free_slots(max(_MIN_ROWS, self._rows))
        self._place(np.arange(self._rows))
        self._renumber()

    def _renumber(self) -> None:
        """Number the living buckets from 0 again, so that the numbers do not grow for ever."""
        living = list(self._numbers.values())
        moved = np.zeros(len(self._alive), np.uint32)
        moved[living] = np.arange(len(living))
        self._numbers_of[: self._rows] = moved[self._numbers_of[: self._rows]]
        size = max(64, 2 * len(living))
        self._alive, self._members, self._buckets = (
            np.append(each[living], np.zeros(size - len(living), each.dtype))
            for each in (self._alive, self._members, self._buckets)
        )
        self._next_number = len(living)
        self._numbers = {bucket: number for number, bucket in enumerate(self._numbers)}

    def _allocate(self, rows: int) -> None:
        self._keys = np.empty((rows, 2), np.uint64)
        self._prints = np.empty(rows, np.uint64)
        self._origins = np.empty(rows, np.uint64)
        self._numbers_of = np.empty(rows, np.uint32)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._keys, self._prints, self._origins, self._numbers_of

    def _reserve(self, rows: int) -> None:
        old = self._columns()
        self._allocate(max(rows, len(self._keys)))
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
