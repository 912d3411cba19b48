"""The places of a process's remembered ids: in memory and in files. Looked up at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflow.dedupe.tiered import Figures


class IdMetrics(Collector):
    """The figures of all lanes of a process, as gauges."""

    def __init__(self, figures: Callable[[], Figures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Return the names, with no need to look."""
        return _gauges(Figures.of([]))

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as they are now."""
        return _gauges(self._figures())


def _gauges(figures: Figures) -> Iterator[Metric]:
    for name, documentation, value in (
        (
            "payments_remembered_memory_bytes",
            "Memory of remembered paymentIds; DEDUPE_MEMORY bounds it if files can be written.",
            figures.hot_bytes,
        ),
        (
            "payments_remembered_file_ids",
            "paymentIds in files; one that was prolonged may be in several of them.",
            figures.cold,
        ),
        ("payments_remembered_files", "Files of remembered paymentIds.", figures.runs),
        (
            "payments_remembered_file_bytes",
            "Size of the files of remembered paymentIds.",
            figures.file_bytes,
        ),
        (
            "payments_remembered_files_failing",
            "1 if files of remembered paymentIds cannot be written: the ids stay in memory.",
            int(figures.are_failing),
        ),
    ):
        yield GaugeMetricFamily(name, documentation, value=value)
