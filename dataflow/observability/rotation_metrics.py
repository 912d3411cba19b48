"""The mounted secrets: those in use, or refused ones. Looked up at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


class RotationMetrics(Collector):
    """One gauge.

    Args:
        refused: Returns the variables of changed files whose content cannot be used.
    """

    def __init__(self, refused: Callable[[], list[str]]) -> None:
        self._refused = refused

    def describe(self) -> Iterable[Metric]:
        """Return the same family as ever."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the state as it is now."""
        yield GaugeMetricFamily(
            "payments_changed_secrets_refused",
            "1 if mounted secrets have changed and cannot be used: the old ones stay in use.",
            value=int(bool(self._refused())),
        )
