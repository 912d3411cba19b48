"""The limits of retention: the offset from which on every event about a record must be there.

Outputs are deleted in the order in which they were written, so by time. No transaction is open for
longer than its timeout. So whatever was decided that long after the first event that is left in a
partition, is there; and what comes after a record that was decided later still, was decided later
as well, give or take one more transaction.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from dataflow.verify.reader import Bounds
from dataflow.verify.rows import Rows

_PARTITION_SHIFT = np.uint64(48)
_OFFSET_MASK = np.uint64((1 << 48) - 1)


def has_deleted(bounds: Mapping[int, Bounds]) -> list[int]:
    """Return the partitions of a topic that do not begin at the beginning any more."""
    return sorted(partition for partition, bound in bounds.items() if bound.low > 0)


def known_from(
    first_left_ms: int, timeout_ms: int, audits: Iterable[Rows], ends: Mapping[int, int]
) -> dict[int, int]:
    """Return the offset of each input partition from which on all outputs must be there.

    Args:
        first_left_ms: When the first event was decided that is left; the latest of all output
            partitions from which anything was deleted.
        timeout_ms: The transaction timeout.
        audits: All audit events.
        ends: Where the input partitions end: of one in which nothing qualifies, nothing is known.
    """
    known = dict(ends)
    for table in audits:
        origins = table["origin"][table["decided_ms"] > first_left_ms + 2 * timeout_ms]
        partitions = (origins >> _PARTITION_SHIFT).astype(np.int64)
        for partition in np.unique(partitions).tolist():
            least = int((origins[partitions == partition] & _OFFSET_MASK).min())
            known[partition] = min(known.get(partition, least), least)
    return known
