"""Origins: where a record stands in the input as one number, 16 bits partition, 48 bits offset."""

import numpy as np
from numpy.typing import NDArray

_PARTITION_SHIFT = 48
_OFFSET_MASK = (1 << _PARTITION_SHIFT) - 1


def origin(partition: int, offset: int) -> int:
    """Return the origin of one record."""
    return partition << _PARTITION_SHIFT | offset


def origins(partition: int, offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the origins of records of one partition."""
    return offsets.astype(np.uint64) + np.uint64(origin(partition, 0))


def place(origin: int) -> tuple[int, int]:
    """Return the partition and offset of an origin."""
    return origin >> _PARTITION_SHIFT, origin & _OFFSET_MASK
