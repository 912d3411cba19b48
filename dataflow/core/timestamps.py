"""The timestamps of records that can be true. Senders set them, some with a broken clock.

A timestamp that cannot be true goes into no latency and no lag in seconds, or one sender that
writes 1970 would page those on call, and one that writes 2500 would hide what is late. What is
remembered, and for how long, does not depend on this.
"""

import numpy as np
from numpy.typing import NDArray

PAST_MS = 30 * 24 * 3600 * 1000
"""Far longer than Kafka keeps requests (7 days, by default and in `k8s/`): a backlog counts."""
AHEAD_MS = 60_000
"""Clocks that are kept in step differ by less than a second."""


def plausible(times_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.bool_]:
    """Return which of these timestamps, in milliseconds since 1970, can be true."""
    return (times_ms >= now_ms - PAST_MS) & (times_ms <= now_ms + AHEAD_MS)


def oldest_plausible_ms(times_ms: NDArray[np.int64], now_ms: int) -> int:
    """Return the oldest timestamp that can be true; now, if none can."""
    believed = times_ms[plausible(times_ms, now_ms)]
    return int(believed.min()) if len(believed) else now_ms
