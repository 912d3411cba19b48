"""The verdicts on a batch of requests, given the remembered ids; and the entries to remember.

The rules, which hold for any number of tiers an id may be found in:

1. Of the entries of an id the newest one counts, wherever it was found.
2. An id whose entry is dated before the *horizon* is forgotten: the next request claims it.
3. The first request of an id claims it. Others with its fingerprint are duplicates, with another
   fingerprint conflicts; neither changes what the id stands for.
4. Time is divided into *spans*, and the horizon stands between two of them. A repeat, of either
   kind, prolongs the life of the id if it comes in a later span than that of the entry. So a flood
   of repeats makes few entries, and an id lives at most a span longer than it must.
5. All that a batch changes is in its entries: to fold all entries is to remember the same.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.core.hot_ids import Found
from dataflow.core.lane_log import Entries, entries_of
from dataflow.core.lanes import KeyArray, U64Array

_NONE = -1


class Verdict(IntEnum):
    """The knowledge about a request's paymentId."""

    FIRST = 0
    """Not remembered: this request claims the id."""
    DUPLICATE = 1
    """Remembered, with the same content."""
    CONFLICT = 2
    """Remembered, with other content."""


class Batch(NamedTuple):
    """Requests of one lane, in order."""

    date_s: int
    """The time they were read, in seconds since 1970."""
    keys: KeyArray
    """Hashes of the paymentIds, shape (n, 2)."""
    fingerprints: U64Array
    origins: U64Array


class Judgement(NamedTuple):
    """The answer for a batch, in its order."""

    verdicts: NDArray[np.int8]
    """A `Verdict` for each."""
    first_origins: U64Array
    """The origin that claimed the id: its own for a `FIRST`."""
    changed: NDArray[np.int64]
    """The distinct ids that the batch changes."""
    entries: Entries
    """The entries from now on: claims and prolonged lives."""
    before_s: NDArray[np.int64]
    """The dates of those that were prolonged."""


class Distinct:
    """The different ids of a batch, sorted by the second word of their keys.

    Attributes:
        keys: Of the ids.
        firsts: Where in the batch each id stands first.
        inverse: Which id each request is of.
    """

    def __init__(self, keys: KeyArray) -> None:
        _, firsts, inverse = np.unique(keys[:, 1], return_index=True, return_inverse=True)
        if not (keys[firsts, 0][inverse] == keys[:, 0]).all():
            # Two keys share 64 of their 128 bits: compare them whole.
            _, firsts, inverse = np.unique(
                keys[:, ::-1], axis=0, return_index=True, return_inverse=True
            )
        self.keys = keys[firsts]
        self.firsts, self.inverse = firsts, inverse.reshape(-1)


class Known:
    """The newest entry of each id of a batch, from all tiers."""

    def __init__(self, ids: int) -> None:
        self.fingerprints = np.zeros(ids, np.uint64)
        self.origins = np.zeros(ids, np.uint64)
        self.dates_s = np.full(ids, _NONE, np.int64)

    def add(self, found: Found) -> None:
        """Take what a tier has: where it is newer, it counts."""
        newer = found.dates_s > self.dates_s[found.places]
        places = found.places[newer]
        self.fingerprints[places] = found.fingerprints[newer]
        self.origins[places] = found.origins[newer]
        self.dates_s[places] = found.dates_s[newer]


def judge(batch: Batch, distinct: Distinct, known: Known, horizon_s: int, span_s: int) -> Judgement:
    """Judge a batch by the rules above.

    Args:
        batch: The requests.
        distinct: Their ids.
        known: What is remembered of each id.
        horizon_s: Ids dated before it are forgotten.
        span_s: How many seconds a span has.
    """
    firsts, inverse = distinct.firsts, distinct.inverse
    claimed = known.dates_s < max(0, horizon_s)
    fingerprints = np.where(claimed, batch.fingerprints[firsts], known.fingerprints)
    origins = np.where(claimed, batch.origins[firsts], known.origins)
    verdicts = np.where(
        fingerprints[inverse] == batch.fingerprints,
        np.int8(Verdict.DUPLICATE),
        np.int8(Verdict.CONFLICT),
    )
    verdicts[firsts[claimed]] = Verdict.FIRST
    # Without a division for each: an older span ends before this one begins.
    prolonged = ~claimed & (known.dates_s < batch.date_s // span_s * span_s)
    changed = (claimed | prolonged).nonzero()[0]
    entries = entries_of(
        distinct.keys[changed], fingerprints[changed], origins[changed], batch.date_s
    )
    return Judgement(verdicts, origins[inverse], changed, entries, known.dates_s[prolonged])
