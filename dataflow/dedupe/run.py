"""A run that is open for lookups (the format: `run_format`), and what is believed of its file.

1. When a run is opened, its size, header, filter and index are read and checked: 1.6 bytes an id. A
   wrong bit of the filter would hide an id, so no filter is used that was not checked as a whole.
2. A block is checked when it is first touched, before its entries are compared. So a start does not
   read them all, and still nothing is answered from bytes that were not checked.
3. A merge checks all blocks that it reads.
4. Checks read the file, not the mapping: a bad sector, or a file that was cut, is then an error
   that can be handled. Through the mapping it would be a SIGBUS, which ends the process.

What remains: a page that was checked, has left the page cache, and comes back from the disk as
another one, in the life of one process. That needs a disk that gives wrong bytes without an error;
the next start or merge notices. And a file that is cut while it is mapped: touching what is gone
ends the process by SIGBUS, and the next start throws the file away, since its size is wrong.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dataflow.core import bloom
from dataflow.core.hot_ids import Found
from dataflow.core.lane_log import ENTRY, Entries
from dataflow.core.lanes import KeyArray
from dataflow.dedupe.run_format import (
    BLOCK,
    CHECKED,
    PAGE,
    PIECE,
    ROWS,
    DamagedRunError,
    layout_of,
    read_facts,
)

_SEARCHED = 1024
"""Blocks that are compared at once: a megabyte of words."""


class Run:
    """A run that is open for lookups: its file may be deleted meanwhile, but not cut.

    Attributes:
        path: The file.
        facts: The content of its header.
    """

    def __init__(self, path: Path, check: int) -> None:
        """Open a run.

        Args:
            path: The file.
            check: `RunFacts.check` of the run that is expected.

        Raises:
            DamagedRunError: it is not that run, or not as it was written.
            OSError: it cannot be read.
        """
        self.path = path
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.facts = facts = read_facts(file, check)
            self._count = -(-facts.rows // ROWS)
            self._layout = layout = layout_of(facts.filter_words, self._count)
            if os.fstat(file).st_size != facts.size_bytes or layout.end != facts.size_bytes:
                raise DamagedRunError("its size is wrong")
            _check(file, layout.filter_at, facts.filter_words * 8, facts.filter_check, "filter")
            _check(file, layout.index_at, self._count * 16, facts.index_check, "index")
            mapped = mmap.mmap(file, facts.size_bytes, access=mmap.ACCESS_READ)
        finally:
            os.close(file)
        mapped.madvise(mmap.MADV_RANDOM, layout.blocks_at, self._count * PAGE)
        self._words = np.frombuffer(mapped, "<u8", facts.filter_words, layout.filter_at)
        self._blocks = np.frombuffer(mapped, BLOCK, self._count, layout.blocks_at)
        firsts = np.frombuffer(mapped, "<u8", self._count * 2, layout.index_at).reshape(-1, 2)
        self._first_1 = np.ascontiguousarray(firsts[:, 1])
        self._first_0 = np.ascontiguousarray(firsts[:, 0])
        self._unchecked = np.ones(self._count, np.bool_)

    def find(self, keys: KeyArray, asked: bloom.Probes) -> Found:
        """Look up a batch.

        Raises:
            DamagedRunError: a block that was to be compared is not as it was written.
        """
        places = bloom.maybe(self._words, asked)
        found = [
            self._search(keys, places[start : start + _SEARCHED])
            for start in range(0, len(places), _SEARCHED)
        ]
        if len(found) == 1:
            return found[0]
        if not found:
            return _NOTHING
        return Found(*map(np.concatenate, zip(*found, strict=True)))

    def pieces(self) -> Iterator[Entries]:
        """Read all entries, in their order, with all checks; not through the mapping.

        Raises:
            DamagedRunError: a block is not as it was written, or cannot be read.
        """
        file = self._open()
        try:
            for start in range(0, self._count, PIECE):
                count = min(PIECE, self._count - start)
                blocks = self._read(file, start, count)
                rows = np.empty((count, ROWS), ENTRY)
                rows["key"][:, :, 1], rows["key"][:, :, 0] = blocks["word_1"], blocks["word_0"]
                for name in ("fingerprint", "origin", "date_s"):
                    rows[name] = blocks[name]
                yield rows.reshape(-1)[: self.facts.rows - start * ROWS]
        finally:
            if file is not None:
                os.close(file)

    def warm(self) -> None:
        """Have the system read the file ahead: until it is in memory, a search is a disk access."""
        file = self._open()
        if file is not None:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
            os.close(file)

    def verify(self) -> None:
        """Check all blocks.

        Raises:
            DamagedRunError: one is not as it was written, or cannot be read.
        """
        for _ in self.pieces():
            pass
        self._unchecked[:] = False

    def _search(self, keys: KeyArray, places: NDArray[np.int64]) -> Found:
        wanted = keys[places]
        numbers = np.searchsorted(self._first_1, wanted[:, 1], side="right") - 1
        # Where a block begins with this very word, the key may stand in the block before.
        while True:
            before = np.flatnonzero(
                (numbers > 0)
                & (self._first_1[numbers] == wanted[:, 1])
                & (self._first_0[numbers] > wanted[:, 0])
            )
            if not len(before):
                break
            numbers[before] -= 1
        inside = np.flatnonzero(numbers >= 0)  # the others are less than the first of all keys
        places, wanted, numbers = places[inside], wanted[inside], numbers[inside]
        self._trust(numbers)
        at, column = np.nonzero(self._blocks["word_1"][numbers] == wanted[:, 1, None])
        rows = numbers[at], column
        hit = self._blocks["word_0"][rows] == wanted[at, 0]
        hit &= rows[0] * ROWS + column < self.facts.rows  # what fills the last block is no entry
        at, rows = at[hit], (rows[0][hit], column[hit])
        return Found(
            places[at],
            self._blocks["fingerprint"][rows],
            self._blocks["origin"][rows],
            self._blocks["date_s"][rows],
        )

    def _trust(self, numbers: NDArray[np.int64]) -> None:
        """Check the blocks that were not touched before."""
        fresh = numbers[self._unchecked[numbers]]
        if not len(fresh):
            return
        file = self._open()
        try:
            for number in np.unique(fresh).tolist():
                self._read(file, number, 1)
                self._unchecked[number] = False
        finally:
            if file is not None:
                os.close(file)

    def _open(self) -> int | None:
        """Open the file for a check; None if it was deleted, which the mapping survives."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _read(self, file: int | None, start: int, count: int) -> NDArray[Any]:
        """Read blocks, and check them."""
        if file is None:
            blocks = self._blocks[start : start + count]
        else:
            try:
                data = os.pread(file, count * PAGE, self._layout.blocks_at + start * PAGE)
            except OSError as error:
                raise DamagedRunError(f"block {start}: {error.strerror}") from error
            if len(data) != count * PAGE:
                raise DamagedRunError("it was cut")
            blocks = np.frombuffer(data, BLOCK)
        pages = blocks.view(np.uint8).reshape(count, PAGE)
        checks = [crc32(page) for page in pages[:, :CHECKED]]
        right = (blocks["check"] == checks) & (blocks["run_id"] == self.facts.run_id)
        right &= blocks["number"] == np.arange(start, start + count)
        if not right.all():
            raise DamagedRunError(f"block {start + int(right.argmin())} is not as it was written")
        return blocks


def _check(file: int, offset: int, size: int, check: int, what: str) -> None:
    found = 0
    for start in range(0, size, PIECE * PAGE):
        found = crc32(os.pread(file, min(PIECE * PAGE, size - start), offset + start), found)
    if found != check:
        raise DamagedRunError(f"its {what} is not as it was written")


_NOTHING = Found(
    np.empty(0, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32)
)
