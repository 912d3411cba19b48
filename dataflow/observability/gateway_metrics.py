"""The calls of a process to its gateway, as metrics. Looked up at each scrape."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflow.core.charging import REPLIES, ChargingFigures


class GatewayMetrics(Collector):
    """The figures of the calls."""

    def __init__(self, figures: Callable[[], ChargingFigures]) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Return the names, with no need to look."""
        return _metrics(ChargingFigures())

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as they are now."""
        return _metrics(self._figures())


def _metrics(figures: ChargingFigures) -> Iterator[Metric]:
    for name, documentation, value in (
        (
            "payments_gateway_held",
            "1 while the flow reads nothing: the gateway answers nobody, or too much is parked.",
            float(figures.held_for_s is not None),
        ),
        ("payments_gateway_in_flight", "Calls to the gateway in flight.", figures.in_flight),
        ("payments_gateway_window", "Calls that may be in flight now.", figures.window),
        ("payments_gateway_queued", "Payments that wait for their first call.", figures.queued),
        (
            "payments_gateway_mean_seconds",
            "Time the gateway takes for a definite answer, as a moving mean.",
            figures.mean_latency_s,
        ),
        (
            "payments_pending",
            "Payments of this process that wait for the gateway on the pending topic.",
            figures.parked,
        ),
    ):
        yield GaugeMetricFamily(name, documentation, value=value)
    yield CounterMetricFamily(
        "payments_gateway_holds_total",
        "Times that the flow began to hold.",
        value=figures.times_held,
    )
    replies = CounterMetricFamily(
        "payments_gateway_replies_total", "Replies of the gateway, by kind.", labels=["reply"]
    )
    for reply in REPLIES:
        replies.add_metric([reply], figures.replies.get(reply, 0))
    yield replies
