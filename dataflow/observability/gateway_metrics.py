"""The calls of a process to its gateway, as metrics. Looked up at each scrape."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from dataflow.core.charging import REPLIES, CallKind, ChargingFigures
from dataflow.core.hold import HoldCause
from dataflow.observability.histogram import with_exemplars


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


class _Gauge(NamedTuple):
    name: str
    documentation: str
    value: float | None
    """None: there is no sample."""


def _metrics(figures: ChargingFigures) -> Iterator[Metric]:
    yield _held(figures)
    for gauge in (*_of_the_calls(figures), *_of_what_is_parked(figures)):
        yield GaugeMetricFamily(gauge.name, gauge.documentation, value=gauge.value)
    yield CounterMetricFamily(
        "payments_gateway_holds_total",
        "Times that the gateway answered nobody, and the flow began to hold.",
        value=figures.times_held,
    )
    # All kinds from the start, so that rates do not miss the first of each.
    calls: dict[str, int] = {kind.value: figures.calls.get(kind, 0) for kind in CallKind}
    yield _by("call", "payments_gateway_calls_total", "Calls to the gateway, by kind.", calls)
    replies = {reply: figures.replies.get(reply, 0) for reply in REPLIES}
    yield _by(
        "reply", "payments_gateway_replies_total", "Replies of the gateway, by kind.", replies
    )
    yield CounterMetricFamily(
        "payments_gateway_key_replays_total",
        "Charges sent under an idempotency key that may have been sent before.",
        value=figures.key_replays,
    )
    yield _durations(figures)


def _by(label: str, name: str, documentation: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _held(figures: ChargingFigures) -> Metric:
    held = GaugeMetricFamily(
        "payments_gateway_held",
        "1 while the flow reads nothing for that cause; one of them at most.",
        labels=["cause"],
    )
    for cause in HoldCause:
        held.add_metric([cause], float(figures.hold_cause is cause))
    return held


def _of_the_calls(figures: ChargingFigures) -> tuple[_Gauge, ...]:
    return (
        _Gauge(
            "payments_gateway_held_seconds",
            "Time for which the flow has read nothing because of the gateway; 0 if it reads.",
            figures.held_for_s or 0.0,
        ),
        _Gauge("payments_gateway_in_flight", "Calls to the gateway in flight.", figures.in_flight),
        _Gauge("payments_gateway_window", "Calls that may be in flight now.", figures.window),
        _Gauge(
            "payments_gateway_rate_limit",
            "Calls in a second that may begin now; absent if there is no limit.",
            figures.rate_limit,
        ),
        _Gauge(
            "payments_gateway_queued", "Payments that wait for their first call.", figures.queued
        ),
        _Gauge(
            "payments_gateway_waiting",
            "Payments that are to be asked for again, at their time.",
            figures.waiting,
        ),
        _Gauge(
            "payments_gateway_mean_seconds",
            "Time the gateway takes for a definite answer, as a moving mean.",
            figures.mean_latency_s,
        ),
    )


def _of_what_is_parked(figures: ChargingFigures) -> tuple[_Gauge, ...]:
    return (
        _Gauge(
            "payments_pending",
            "Payments of this process that wait for the gateway on the pending topic.",
            figures.parked,
        ),
        _Gauge(
            "payments_pending_max",
            "Payments that may wait there before the process reads nothing more.",
            figures.parked_most,
        ),
        _Gauge(
            "payments_pending_oldest_seconds",
            "Time since the oldest of them was put there; 0 if there is none.",
            figures.oldest_parked_for_s or 0.0,
        ),
        _Gauge(
            "payments_unresolved",
            "Those of them that a person has to decide: there is no safe way to ask any more.",
            figures.unresolved,
        ),
    )


def _durations(figures: ChargingFigures) -> Metric:
    family = HistogramMetricFamily(
        "payments_gateway_call_duration_seconds",
        "Time that a call takes; answer is definite if it decided the payment, else none.",
        labels=["answer"],
    )
    for is_definite, found in figures.durations.items():
        answer = "definite" if is_definite else "none"
        family.add_metric([answer], with_exemplars(found), found.sum_s)
    return family
