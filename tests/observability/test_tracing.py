"""Spans of payments: made only for what is sampled, and only if somebody collects them."""

import asyncio
import importlib
import re
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from bytewax.testing import TestingSink, run_main
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.exposition import generate_latest
from structlog.testing import capture_logs

from dataflow.config.settings import Settings
from dataflow.core.items import (
    LaneProgress,
    OutcomeBatch,
    OutputBatch,
    PendingChange,
    RecordBatch,
    SinkItem,
)
from dataflow.core.lane_queue import Charge
from dataflow.flow import flow
from dataflow.gateways.calls import Calls
from dataflow.gateways.port import Approved, Gateway, Reply, Traits, Unknown
from dataflow.gateways.replies import Publishable
from dataflow.observability import tracing
from dataflow.observability.tracing import Span
from dataflow.runtime import Runtime
from dataflow.steps.publish import Progress
from schemas import pending
from schemas.headers import Headers
from schemas.requests import PaymentRequest
from tests import ROOT
from tests.core.test_trace_context import PARENT, SPAN, TRACE
from tests.published import examples
from tests.steps.step_samples import GARBAGE, payment, request
from tests.support.answered_source import AnsweredSource
from tests.support.required import REQUIRED
from tests.support.signals import opening, restoring

SAMPLED: Headers = [("traceparent", PARENT), ("tracestate", b"vendor=x")]
UNSAMPLED: Headers = [("traceparent", PARENT[:-2] + b"00")]
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture(autouse=True)
def _tracing_ends() -> Iterator[None]:
    yield
    tracing.stop()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    """Return where spans go: tracing is on."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.use(provider)
    return exporter


def parent_of(span: ReadableSpan) -> tuple[str, str, str]:
    parent = span.parent
    assert parent is not None
    assert parent.is_remote
    return f"{parent.trace_id:032x}", f"{parent.span_id:016x}", parent.trace_state.to_header()


def test_a_span_is_a_child_of_its_request_and_has_its_times(exporter: InMemorySpanExporter) -> None:
    tracing.record(Span.GATEWAY, [SAMPLED, UNSAMPLED, []], 5, 9, call="charge")
    [span] = exporter.get_finished_spans()
    assert parent_of(span) == (TRACE, SPAN, "vendor=x")
    assert (span.name, span.start_time, span.end_time) == ("gateway", 5, 9)
    assert span.attributes == {"call": "charge"}


def test_an_error_of_the_sdk_costs_no_payment_and_is_logged() -> None:
    class Broken:
        def get_tracer(self, *_: object) -> Any:
            return self

        def start_span(self, *_: object, **__: object) -> Any:
            raise RuntimeError("out of spans")

        def shutdown(self) -> None:
            pass

    tracing.use(Broken())
    with capture_logs() as lines:
        tracing.record(Span.COMMIT, [SAMPLED, SAMPLED], 1, 2)
    assert [line["event"] for line in lines] == ["a span is lost"]


# ---- when it is on ----


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_SERVICE_NAME": "payments"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        COLLECTOR | {"OTEL_SDK_DISABLED": "TRUE"},
        COLLECTOR | {"OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_begins_without_a_collector(environ: dict[str, str]) -> None:
    before = set(threading.enumerate())  # of other tests: some may just be ending
    with capture_logs() as lines:
        tracing.start(environ)
    begun = set(threading.enumerate()) - before
    assert (tracing.is_on(), begun, lines) == (False, set(), [])


def test_nothing_begins_without_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", without)
    with capture_logs() as lines:
        tracing.start(COLLECTOR)
    assert (tracing.is_on(), lines) == (False, [])


def test_nothing_is_made_and_nothing_is_found_while_it_is_off() -> None:
    tracing.record(Span.DECODE, [SAMPLED], 1)
    assert tracing.trace_id([SAMPLED]) is None
    assert tracing.in_log(SAMPLED) == {}


def test_a_collector_that_is_away_delays_a_stop_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The provider's own end never comes; the process's does."""
    monkeypatch.setattr(tracing, "_FLUSH_S", 0.05)
    ended = threading.Event()

    class Hanging(TracerProvider):
        def shutdown(self) -> None:
            ended.wait()

    tracing.use(Hanging(shutdown_on_exit=False))
    try:
        tracing.stop()
        assert not tracing.is_on()
    finally:
        ended.set()


# ---- the flow ----


def scraped(runtime: Runtime) -> str:
    """Return the metrics as a scraper that takes OpenMetrics gets them."""
    return bytes(generate_latest(runtime.context.metrics.registry)).decode()  # type: ignore[no-untyped-call]


def run(*records: tuple[bytes | None, Headers]) -> tuple[Runtime, list[SinkItem]]:
    """Run the flow, in memory, over records with these headers."""
    offsets = np.arange(len(records))
    batch = RecordBatch(
        partition=0,
        offsets=offsets,
        times_ms=offsets,
        values=[value for value, _ in records],
        next_offset=len(records),
        read_at=1.0,
        headers={n: each for n, (_, each) in enumerate(records) if each},
    )
    runtime = Runtime(Settings.from_env(REQUIRED | {"SIMULATED_DECLINE_RATE": "0"}))
    sink: list[tuple[str, SinkItem]] = []
    with closing(runtime.charging):
        start = [signal(0, 0) for signal in (opening, restoring)]
        graph = flow(AnsweredSource([*start, batch], runtime), TestingSink(sink), runtime)
        run_main(graph, epoch_interval=timedelta(0))  # type: ignore[no-untyped-call]
    return runtime, [item for _, item in sink]


def test_a_payment_is_followed_from_its_producer_to_the_consumer_of_its_outcome(
    exporter: InMemorySpanExporter,
) -> None:
    """One trace; that of the commit is in `integration/test_tracing.py`, as it needs a Kafka."""
    runtime, items = run(
        (payment("pay_1"), SAMPLED), (payment("pay_2"), UNSAMPLED), (payment("pay_3"), [])
    )
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["decode", "dedupe", "gateway"]
    assert {parent_of(span) for span in spans} == {(TRACE, SPAN, "vendor=x")}
    assert spans[-1].attributes == {"call": "charge", "reply": "Approved"}
    times = [(span.start_time or 0, span.end_time or 0) for span in spans]
    assert times == sorted(times)
    [events] = [each for each in items if isinstance(each, OutputBatch) and each.headers[:1]][:1]
    assert SAMPLED in events.headers, "the consumer's span has the same parent"
    traced = [each for item in items if isinstance(item, LaneProgress) for each in item.traced]
    assert sorted(traced, key=str) == sorted([(0, SAMPLED), (1, UNSAMPLED)], key=str)
    text = scraped(runtime)
    assert (
        f'payment_processing_duration_seconds_bucket{{le="+Inf"}} 3.0 # {{trace_id="{TRACE}"}}'
        in text
    )


def test_records_without_a_sampled_parent_leave_nothing(exporter: InMemorySpanExporter) -> None:
    runtime, _ = run((payment("pay_1"), UNSAMPLED), (GARBAGE, []))
    assert exporter.get_finished_spans() == ()
    assert "trace_id" not in scraped(runtime)


def test_a_line_that_names_a_payment_names_its_trace(exporter: InMemorySpanExporter) -> None:
    with capture_logs() as lines:
        run((payment("pay_1"), []), (payment("pay_1", amount=7), SAMPLED))
    [line] = [line for line in lines if "paymentId" in line]
    assert (line["paymentId"], line["traceId"]) == ("pay_1", TRACE)
    assert len(exporter.get_finished_spans()) == 2, "it is decoded and looked up, and not charged"


def test_each_call_about_one_payment_is_a_span(exporter: InMemorySpanExporter) -> None:
    """Charges and look-ups, with what came of them."""

    class Lost(Gateway):
        traits = Traits(key_life_s=None, saves_errors=False, has_lookup=True)

        async def charge(self, request: PaymentRequest, key: str) -> Reply:
            return Approved(f"{request.payment_id}-{key}")

        async def lookup(self, request: PaymentRequest, key: str) -> Reply | None:
            return None if request and key else Unknown("never")

        async def close(self) -> None:
            """Do nothing."""

    calls = Calls(Lost())
    charge = Charge(0, request("pay_1"), 1.0, may_be_charged=True, headers=SAMPLED)
    asyncio.run(calls.reply(charge))
    spans = exporter.get_finished_spans()
    assert [span.attributes for span in spans] == [
        {"call": "look_up", "reply": "NotFound"},
        {"call": "charge", "reply": "Approved"},
    ]
    assert {parent_of(span)[0] for span in spans} == {TRACE}
    [example] = calls.counts.durations[True].examples.values()
    assert example.trace_id == TRACE


def test_the_commit_of_a_parked_payment_is_traced(exporter: InMemorySpanExporter) -> None:
    entry = pending.decode(examples.pending_entry())
    batch = OutcomeBatch(
        pending=[PendingChange("a", entry, headers=SAMPLED), PendingChange("b", None)]
    )
    _, progress = Progress()(("005", batch))
    assert progress.traced == [(None, SAMPLED)]
    tracing.stop()
    _, progress = Progress()(("005", batch))
    assert progress.traced == []
    assert exporter.get_finished_spans() == ()


def test_a_line_about_a_changed_reply_names_the_trace_of_its_payment(
    exporter: InMemorySpanExporter,
) -> None:
    unfit: list[Reply] = [Approved("a"), Approved("b\n")]
    with capture_logs() as lines:
        Publishable()([request("pay_1"), request("pay_2")], unfit, [[], SAMPLED])
    [line] = lines
    assert (line["paymentId"], line["traceId"]) == ("pay_2", TRACE)
    assert exporter.get_finished_spans() == ()


def test_an_exemplar_is_in_the_bucket_of_its_value_and_is_the_latest() -> None:
    runtime = Runtime(Settings.from_env(REQUIRED))
    metrics = runtime.context.metrics
    metrics.decided(0.003, 2, TRACE)
    metrics.decided(0.004, 1)
    metrics.traced(-1.0, TRACE)
    [line] = [line for line in scraped(runtime).splitlines() if "trace_id" in line]
    assert line.startswith(
        'payment_processing_duration_seconds_bucket{le="0.005"} 3.0 # {trace_id='
    )
    assert line.split(" # ")[1].split()[1] == "0.003"


def test_the_image_with_the_extra_has_the_same_versions_and_the_sdk() -> None:
    """A version of the one lock that the other has not would be untested."""
    plain, extra, dev = (
        dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements.txt", "requirements-otel.txt", "requirements-dev.txt")
    )
    assert plain.items() <= extra.items() <= dev.items()
    assert {
        "opentelemetry-sdk",
        "opentelemetry-exporter-otlp-proto-http",
    } <= extra.keys() - plain.keys()
