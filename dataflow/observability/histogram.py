"""A histogram that takes many observations of one value at once."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from math import inf
from typing import Any

from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from dataflow.core.charging import Durations, Example


class Buckets:
    """Durations by size; safe to use from any thread.

    The client library's own `Histogram.observe` would have to be called once per record.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0
        self._examples: dict[str, Example] = {}
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

    def exemplify(self, value: float, trace_id: str | None) -> None:
        """Note the trace of one of the observations, if there is any: the latest of a bucket."""
        if trace_id is None or not 0.0 <= value < inf:
            return
        bounds = (*map(str, self._bounds), "+Inf")
        example = Example(value, trace_id, time.time())
        with self._lock:
            self._examples[bounds[bisect_left(self._bounds, value)]] = example

    def now(self) -> Durations:
        """Return what was observed up to now, count and sum of the same moment."""
        with self._lock:
            counts, total, examples = self._counts.copy(), self._sum, self._examples.copy()
        buckets, cumulative = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
            cumulative += count
            buckets.append((bound, float(cumulative)))
        return Durations(buckets, total, examples)


def with_exemplars(found: Durations) -> list[Any]:
    """Return the buckets as the client library takes them, with an exemplar where there is one."""
    if not found.examples:
        return list(found.buckets)
    return [(bound, count, _exemplar(found.examples.get(bound))) for bound, count in found.buckets]


def _exemplar(example: Example | None) -> Exemplar | None:
    if example is None:
        return None
    return Exemplar({"trace_id": example.trace_id}, example.seconds, example.at_s)


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
            self._name, self._documentation, buckets=with_exemplars(found), sum_value=found.sum_s
        )
