"""The ids of one lane that were claimed or prolonged last, in memory.

Compact numpy arrays: 36 bytes an id in columns, and a hash table of row numbers beside them. All
work is done a batch at a time; the cost of a lookup does not depend on how many ids there are.

Ids that are too old stay until they are swept, since their date shows what they are.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.lane_log import Entries, entries_of
from dataflow.core.lanes import KeyArray, U64Array

_FREE = -1
_MIN_ROWS = 1024
_GROWTH = 1.25
_MAX_LOAD = 0.6
_MAX_DEAD = 0.25


class Found(NamedTuple):
    """Some keys of a batch, and the entry of each."""

    places: NDArray[np.int64]
    """Their positions in the batch."""
    fingerprints: U64Array
    origins: U64Array
    dates_s: NDArray[np.uint32]


class HotIds:
    """Not thread-safe: a lane has one owner. Once it is only read, any thread may read it."""

    def __init__(self) -> None:
        self._rows = 0
        self._allocate(_MIN_ROWS)
        self._slots = _free_slots(_MIN_ROWS)

    def __len__(self) -> int:
        """Return the number of ids."""
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of memory held by the arrays."""
        return self._slots.nbytes + sum(column.nbytes for column in self._columns())

    def rows_of(self, keys: KeyArray) -> NDArray[np.int64]:
        """Look up a batch: the row of each key, or -1. All keys are probed in step."""
        found = np.full(len(keys), -1, np.int64)
        mask = len(self._slots) - 1
        pending = np.arange(len(keys))
        places = self._home(keys)
        step = 0
        while pending.size:
            rows = self._slots[places]
            taken = rows != _FREE
            pending, places, rows = pending[taken], places[taken], rows[taken]
            same = self._keys[rows] == keys[pending]
            hit = same[:, 0] & same[:, 1]
            found[pending[hit]] = rows[hit]
            # Ever longer steps: with steps of one, what is taken grows into long stretches.
            step += 1
            pending, places = pending[~hit], (places[~hit] + step) & mask
        return found

    def found(self, rows: NDArray[np.int64]) -> Found:
        """Return what `rows_of` has found."""
        places = (rows >= 0).nonzero()[0]
        rows = rows[places]
        return Found(places, self._prints[rows], self._origins[rows], self._dates_s[rows])

    def put(self, entries: Entries, rows: NDArray[np.int64]) -> None:
        """Take entries in place of what there is.

        Args:
            entries: No two of one key.
            rows: What `rows_of` has for their keys, since nothing was put.
        """
        rows = rows.copy()
        fresh = rows < 0
        rows[fresh] = self._append(entries["key"][fresh])
        self._prints[rows] = entries["fingerprint"]
        self._origins[rows] = entries["origin"]
        self._dates_s[rows] = entries["date_s"]

    def order(self) -> NDArray[np.int64]:
        """Return the rows, sorted by the second word of their keys, then the first."""
        words = np.ascontiguousarray(self._keys[: self._rows, 1])
        order = np.argsort(words)
        words = words[order]
        if (words[1:] == words[:-1]).any():
            order = np.lexsort((self._keys[: self._rows, 0], self._keys[: self._rows, 1]))
        return order

    def take(self, rows: NDArray[np.int64]) -> Entries:
        """Return some rows as entries."""
        return entries_of(
            self._keys[rows], self._prints[rows], self._origins[rows], self._dates_s[rows]
        )

    def sweep(self, horizon_s: int) -> None:
        """Give back the rows of ids dated before `horizon_s`, if they are enough to be worth it."""
        kept = np.flatnonzero(self._dates_s[: self._rows] >= horizon_s)
        if self._rows - len(kept) <= max(_MIN_ROWS, self._rows * _MAX_DEAD):
            return
        old = self._columns()
        self._rows = len(kept)
        self._allocate(max(_MIN_ROWS, int(len(kept) * _GROWTH)))
        for column, before in zip(self._columns(), old, strict=True):
            column[: self._rows] = before[kept]
        self._slots = _free_slots(max(_MIN_ROWS, self._rows))
        self._place(np.arange(self._rows))

    def _home(self, keys: KeyArray) -> NDArray[np.int64]:
        # The first word chose the lane; the second one is still uniform within it. Its highest bits
        # count, so keys that are sorted by it go through the table from front to end.
        shift = np.uint64(65 - len(self._slots).bit_length())
        return (keys[:, 1] >> shift).view(np.int64)

    def _append(self, keys: KeyArray) -> NDArray[np.int64]:
        """Return new rows for keys that have none."""
        start, self._rows = self._rows, self._rows + len(keys)
        if self._rows > len(self._keys):
            self._reserve(max(self._rows, int(len(self._keys) * _GROWTH)))
        self._keys[start : self._rows] = keys
        rows = np.arange(start, self._rows)
        if self._rows > len(self._slots) * _MAX_LOAD:
            self._slots = _free_slots(self._rows)
            self._place(np.arange(self._rows))
        else:
            self._place(rows)
        return rows

    def _place(self, rows: NDArray[np.int64]) -> None:
        """Put rows into the hash table: each claims a free slot, then looks whether it got it."""
        mask = len(self._slots) - 1
        places = self._home(self._keys[rows])
        step = 0
        while rows.size:
            free = self._slots[places] == _FREE
            self._slots[places[free]] = rows[free]
            lost = self._slots[places] != rows
            step += 1
            rows, places = rows[lost], (places[lost] + step) & mask

    def _allocate(self, rows: int) -> None:
        self._keys = np.empty((rows, 2), np.uint64)
        self._prints = np.empty(rows, np.uint64)
        self._origins = np.empty(rows, np.uint64)
        self._dates_s = np.empty(rows, np.uint32)

    def _columns(self) -> tuple[NDArray[Any], ...]:
        return self._keys, self._prints, self._origins, self._dates_s

    def _reserve(self, rows: int) -> None:
        """Make room for so many rows, a column at a time: never two of the whole."""
        for name in ("_keys", "_prints", "_origins", "_dates_s"):
            old = getattr(self, name)
            column = np.empty((rows, *old.shape[1:]), old.dtype)
            column[: len(old)] = old
            setattr(self, name, column)


def _free_slots(rows: int) -> NDArray[np.int32]:
    """Return a table of free slots, a power of two, that `rows` fill at most to `_MAX_LOAD`."""
    size = 1
    while size * _MAX_LOAD < rows + 1:
        size *= 2
    return np.full(size, _FREE, np.int32)
