"""Payments that are followed from producer to consumer, with the flow in between."""

import json
from pathlib import Path

from confluent_kafka import Message, Producer
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas.headers import Headers
from tests.support.collector import Collector, SpanFact
from tests.support.flow_process import LIMIT_S, Flow, Topics, read_all, request
from tests.support.kafka import Cluster

_PROPAGATOR = TraceContextTextMapPropagator()


class Service:
    """A service around the flow, with spans of its own."""

    def __init__(self, name: str, *, samples: bool = True) -> None:
        self._name = name
        self._exporter = InMemorySpanExporter()
        sampler = ALWAYS_ON if samples else ALWAYS_OFF
        provider = TracerProvider(sampler, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._tracer = provider.get_tracer(name)

    def send(self, kafka: Cluster, topics: Topics, *payment_ids: str) -> None:
        """Send requests, each in a trace of its own."""
        producer = Producer({"bootstrap.servers": kafka.bootstrap})
        for payment_id in payment_ids:
            carrier: dict[str, str] = {}
            with self._tracer.start_as_current_span("send", Context()):
                _PROPAGATOR.inject(carrier)
                headers: Headers = [*carrier.items()]
                producer.produce(topics.requested, request(payment_id), headers=headers)
        assert producer.flush(30) == 0

    def receive(self, messages: list[Message]) -> None:
        """Receive outcomes, in the trace that each has."""
        for message in messages:
            headers = message.headers() or []
            assert isinstance(headers, list)
            carrier = {name: bytes(value or b"").decode() for name, value in headers}  # type: ignore[arg-type]
            parent = _PROPAGATOR.extract(carrier)
            with self._tracer.start_as_current_span("receive", parent):
                json.loads(message.value() or b"")

    def spans(self) -> list[SpanFact]:
        """Return its spans."""
        return [SpanFact.of(self._name, each) for each in self._exporter.get_finished_spans()]


def environ(collector: Collector) -> dict[str, str]:
    """Return the settings of a flow with this collector."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}


def follow(
    kafka: Cluster, topics: Topics, directory: Path, collector: Collector
) -> dict[str, list[SpanFact]]:
    """Follow one sampled payment among others; return the spans of each trace that there is."""
    shop, others, ledger = Service("shop"), Service("others", samples=False), Service("ledger")
    with Flow(kafka, topics, directory, environ=environ(collector)) as flow:
        flow.wait_until_ready()
        others.send(kafka, topics, *(f"other-{n}" for n in range(5)))
        flow.wait_until_decided(5)
        shop.send(kafka, topics, "pay-1")
        others.send(kafka, topics, "other-6")
        flow.wait_until_decided(7)
        outcomes = read_all(kafka, topics.outputs[0])
        ledger.receive([each for each in outcomes if each.key() == b"pay-1"])
        # A stop does not wait for them for long.
        flow.wait(lambda: has_all(collector), LIMIT_S, "followed")
        assert flow.terminate() == 0
    return by_trace([*shop.spans(), *collector.spans(), *ledger.spans()])


def has_all(collector: Collector, after: int = 0) -> bool:
    """Return whether a payment was followed up to a commit, by the spans after the first ones."""
    names = {span.name for span in collector.spans()[after:]}
    return {"gateway", "commit"} <= names


def by_trace(spans: list[SpanFact]) -> dict[str, list[SpanFact]]:
    """Return the spans of each trace, by the time at which they began."""
    traces: dict[str, list[SpanFact]] = {}
    for span in sorted(spans, key=lambda each: each.began_ns):
        traces.setdefault(span.trace_id, []).append(span)
    return traces
