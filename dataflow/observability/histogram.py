"""A histogram that takes many observations of one value at once."""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from math import inf

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflow.core.charging import Durations


class Buckets:
    """Durations by size; safe to use from any thread.

    The client library's own `Histogram.observe` would have to be called once per record.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def observe(self, value: float, count: int = 1) -> None:
        """Add `count` observations of `value` seconds.

        A negative duration (clocks of two machines) or none at all (NaN) counts as 0: one such
        value would spoil the sum, and with it every average, for as long as the process lives.
        """
        if count <= 0:
            return
        if not 0.0 <= value < inf:
            value = 0.0
        bucket = bisect_left(self._bounds, value)
        with self._lock:
            self._counts[bucket] += count
            self._sum += value * count

    def now(self) -> Durations:
        """Return what was observed up to now, count and sum of the same moment."""
        with self._lock:
            counts, total = self._counts.copy(), self._sum
        buckets, cumulative = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
            cumulative += count
            buckets.append((bound, float(cumulative)))
        return Durations(buckets, total)


class BatchHistogram(Buckets, Collector):
    """A histogram that takes n observations of one value in the time of one."""

    def __init__(self, name: str, documentation: str, bounds: tuple[float, ...]) -> None:
        super().__init__(bounds)
        self._name = name
        self._documentation = documentation

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as of now."""
        found = self.now()
        yield HistogramMetricFamily(
            self._name, self._documentation, buckets=found.buckets, sum_value=found.sum_s
        )
