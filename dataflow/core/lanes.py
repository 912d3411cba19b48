"""The lane a paymentId belongs to: all that concerns one payment commits in one transaction."""

import numpy as np
from numpy.typing import NDArray

from schemas.requests import IDENTITY_BYTES

KeyArray = NDArray[np.uint64]
"""128-bit hashes of paymentIds, shape (n, 2)."""
U64Array = NDArray[np.uint64]
"""Fingerprints or origins, shape (n,)."""


MAX_LANES = 256
"""Every lane there may ever be is a partition of the sink, used or not: the engine cannot resume
the state of one that is not listed, and `LANES` may have been larger before. Those that are not in
use are `UnusedLane`s, which cost nothing."""


def split_identities(identities: bytes) -> tuple[KeyArray, U64Array]:
    """Return keys and fingerprints of joined identities."""
    words = np.frombuffer(identities, "<u8").reshape(-1, IDENTITY_BYTES // 8)
    return np.ascontiguousarray(words[:, :2]), words[:, 2]


def lanes_of(keys: KeyArray, lanes: int) -> NDArray[np.int64]:
    """Return the lane of each key."""
    return (keys[:, 0] % np.uint64(lanes)).astype(np.int64)


def lane_of_key(key: bytes, lanes: int) -> int:
    """Return the lane of one key; the same as `lanes_of` gives it."""
    return int.from_bytes(key[:8], "little") % lanes


def lane_name(lane: int) -> str:
    """Return a lane's state key, its name in transactional ids too: zero-padded, so it sorts."""
    return f"{lane:03d}"
