"""The mounted secrets: those in use, or refused ones. Looked up at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class RotationMetrics(Collector):
    """One gauge.

    Args:
        is_refused: Whether files have changed, and what is in them cannot be used.
    """

    def __init__(self, is_refused: Callable[[], bool]) -> None:
        self._is_refused = is_refused

    def describe(self) -> Iterable[Metric]:
        """Return the same family as ever."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the state as it is now."""
        yield GaugeMetricFamily(
            "payments_changed_secrets_refused",
            "1 if mounted secrets have changed and cannot be used: the old ones stay in use.",
            value=int(self._is_refused()),
        )
