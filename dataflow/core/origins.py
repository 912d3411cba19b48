"""Origins: where a record stands in the input, as one number.

It has 16 bits for the partition, 8 for the generation, and 40 for the offset. A topic that was
deleted and created again has records at the same places as before. The generation, which is made of
the topic's id, distinguishes them: all but one in 255 topics have another. It is 0 where the id is
not known.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

_OFFSET_BITS, _GENERATION_BITS = 40, 8
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_GENERATION_MASK = (1 << _GENERATION_BITS) - 1
_PLACE_MASK = np.uint64((1 << 64) - 1 - (_GENERATION_MASK << _OFFSET_BITS))

U64Array = NDArray[np.uint64]


def generation_of(topic_id: str | None) -> int:
    """Return the generation of a topic with this id."""
    return 0 if topic_id is None else crc32(topic_id.encode()) % _GENERATION_MASK + 1


def origin(partition: int, offset: int, generation: int = 0) -> int:
    """Return the origin of one record."""
    return (partition << _GENERATION_BITS | generation) << _OFFSET_BITS | offset


def origins(partition: int, offsets: NDArray[np.int64], generation: int = 0) -> U64Array:
    """Return the origins of records of one partition, in their order.

    Raises:
        ValueError: the partition has had more records than an origin can count.
    """
    if len(offsets) and offsets[-1] > _OFFSET_MASK:
        raise ValueError(
            f"partition {partition} of the request topic has reached offset {offsets[-1]}, and the"
            f" lane log can hold {_OFFSET_MASK} at most: move the requests to a new topic"
        )
    return offsets.astype(np.uint64) + np.uint64(origin(partition, 0, generation))


def places(origins: U64Array) -> U64Array:
    """Return the same origins without their generations."""
    return origins & _PLACE_MASK


def are_same(some: U64Array, others: U64Array) -> NDArray[np.bool_]:
    """Return whether two origins are of one record; unless both generations are known, by place."""
    place, other_place = places(some), places(others)
    are_known = (some != place) & (others != other_place)
    found: NDArray[np.bool_] = (place == other_place) & ((some == others) | ~are_known)
    return found


def place(origin: int) -> tuple[int, int]:
    """Return the partition and offset of an origin."""
    return origin >> _OFFSET_BITS + _GENERATION_BITS, origin & _OFFSET_MASK
