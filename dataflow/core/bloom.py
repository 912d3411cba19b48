"""A Bloom filter in one word for each id: has a run perhaps got this key?

A key sets `_BITS_SET` bits of a single 64-bit word, so a question costs one access to memory. At
`BITS_AN_ID` bits an id about one in a hundred unknown keys is taken for known, and is then searched
for in vain; a key that was put in is always found.

The word is chosen by the upper half of the key's second word, in its order: keys that are sorted
by it fill the filter from front to end, so it can be written as it is made, and asked in the order
of its memory. The bits are chosen by the first word, above the bits that chose the lane.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.lanes import KeyArray, U64Array

BITS_AN_ID = 12
_WORD_BITS = 64
_BITS_SET = 5
_CHOICE_BITS = 6
_FIRST_CHOICE = np.uint64(_WORD_BITS - _BITS_SET * _CHOICE_BITS)
_HALF = np.uint64(32)


class Probes(NamedTuple):
    """The parts of a query for a batch of keys that are the same for filters of any size."""

    halves: U64Array
    """The upper halves of the keys' second words."""
    masks: U64Array
    """The bits that are set for each."""


def words_for(ids: int) -> int:
    """Return the words of a filter for so many ids."""
    return max(1, -(-ids * BITS_AN_ID // _WORD_BITS))


def probes(keys: KeyArray) -> Probes:
    """Return the query for each of the keys, shape (n, 2)."""
    choices = keys[:, 0] >> _FIRST_CHOICE
    masks = np.zeros(len(keys), np.uint64)
    for _ in range(_BITS_SET):
        masks |= np.uint64(1) << (choices & np.uint64(_WORD_BITS - 1))
        choices >>= np.uint64(_CHOICE_BITS)
    return Probes(keys[:, 1] >> _HALF, masks)


def maybe(words: U64Array, asked: Probes) -> NDArray[np.int64]:
    """Return which of the keys the filter may have got, as places in the batch."""
    found = words[places(len(words), asked.halves)]
    found &= asked.masks
    return np.flatnonzero(found == asked.masks)


def places(size: int, halves: U64Array) -> NDArray[np.int64]:
    """Return the word of each key in a filter of `size` words, which are less than 2**31."""
    return ((halves * np.uint64(size)) >> _HALF).view(np.int64)


class FilterWriter:
    """A writer of a filter: from sorted keys, piece by piece, in little memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._next = 0  # the word that is not complete yet
        self._open = np.uint64(0)

    def add(self, keys: KeyArray) -> U64Array:
        """Put in keys, in ascending order over all calls; return the words that are complete."""
        if not len(keys):
            return np.empty(0, np.uint64)
        asked = probes(keys)
        at = places(self._size, asked.halves)
        starts = np.flatnonzero(np.append(True, at[1:] != at[:-1]))
        words = np.zeros(int(at[-1]) - self._next + 1, np.uint64)
        words[at[starts] - self._next] = np.bitwise_or.reduceat(asked.masks, starts)
        words[0] |= self._open
        self._next, self._open = int(at[-1]), words[-1]
        return words[:-1]

    def rest(self) -> U64Array:
        """Return the words after the last complete one."""
        words = np.zeros(self._size - self._next, np.uint64)
        words[0] = self._open
        return words
