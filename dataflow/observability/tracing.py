"""Spans of payments whose request carries a sampled `traceparent`, by OpenTelemetry.

1. The SDK is an extra of the package (`payments-dataflow[otel]`). Without it, or without an address
   to export to, nothing at all happens: all functions return at once.
2. Every span is a child of the request's own, and made when it has ended: nothing is kept between
   the steps, so spans survive crashes, restarts and parking as the headers do.
3. Tracing never delays and never ends the flow: spans are exported by a thread of the SDK, which
   drops them if the collector cannot keep up.

Tracing is configured once for the process, as logging is.
"""

import importlib
import threading
import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import structlog

from dataflow import __version__
from dataflow.core.trace_context import TraceContext, first_sampled, sampled
from schemas.headers import Headers

_log = structlog.get_logger()

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_SERVICE = "payments-service"
"""The name of the service, where `OTEL_SERVICE_NAME` and the like do not give another."""
_FLUSH_S = 2.0
"""The time that a stop waits for the last spans: a collector that is away delays it no longer."""
_LOG_EVERY_S = 1.0
_SAMPLED = 1


class Span(StrEnum):
    """The names of the spans."""

    DECODE = "decode"
    DEDUPE = "dedupe"
    GATEWAY = "gateway"
    COMMIT = "commit"


class _Recorder:
    """The part that needs the SDK."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self._trace: Any = importlib.import_module("opentelemetry.trace")
        self._tracer = provider.get_tracer("payments-dataflow", __version__)
        self._logged_at_s = -_LOG_EVERY_S
        kinds = self._trace.SpanKind
        self._kinds = {
            Span.DECODE: kinds.CONSUMER,
            Span.GATEWAY: kinds.CLIENT,
            Span.COMMIT: kinds.PRODUCER,
        }

    def record(
        self, name: Span, parent: TraceContext, times_ns: tuple[int, int], what: Mapping[str, str]
    ) -> None:
        try:
            span = self._tracer.start_span(
                name.value,
                self._context(parent),
                kind=self._kinds.get(name, self._trace.SpanKind.INTERNAL),
                attributes=what,
                start_time=times_ns[0],
            )
            span.end(times_ns[1])
        except Exception as error:  # noqa: BLE001  (whatever the SDK does: it costs no payment)
            now_s = time.monotonic()
            if now_s - self._logged_at_s >= _LOG_EVERY_S:
                self._logged_at_s = now_s
                _log.warning("a span is lost", error=f"{type(error).__name__}: {error}")

    def _context(self, parent: TraceContext) -> Any:
        trace = self._trace
        span_context = trace.SpanContext(
            int(parent.trace_id, 16),
            int(parent.span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(_SAMPLED),
            trace_state=trace.TraceState.from_header([parent.state]),
        )
        return trace.set_span_in_context(trace.NonRecordingSpan(span_context))

    def close(self) -> None:
        """Export what is left, for a while; the thread ends with the process."""
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(_FLUSH_S)


class _Process:
    """The recorder of this process; None if nothing is traced."""

    recorder: _Recorder | None = None


def start(environ: Mapping[str, str]) -> None:
    """Begin to trace, if the SDK is there and a collector is named by the usual variables."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return
    if environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return
    if not any(environ.get(name) for name in _ENDPOINTS):
        return
    try:
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
    except ImportError:
        return
    # What the variables give counts more.
    resource = resources.Resource({"service.name": _SERVICE, "service.version": __version__}).merge(
        resources.OTELResourceDetector().detect()
    )
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
    use(provider)
    _log.info("tracing begins")


def use(provider: Any) -> None:
    """Trace by a provider of the SDK."""
    _Process.recorder = _Recorder(provider)


def stop() -> None:
    """End tracing; what is not exported soon is lost."""
    recorder, _Process.recorder = _Process.recorder, None
    if recorder is not None:
        recorder.close()


def is_on() -> bool:
    """Return whether spans are made."""
    return _Process.recorder is not None


def record(
    name: Span,
    requests: Iterable[Headers],
    began_ns: int,
    ended_ns: int | None = None,
    **what: str,
) -> None:
    """Make a span for each of these requests, by its headers, that is sampled.

    Both times are in nanoseconds since 1970; without the second one, it ends now.
    """
    recorder = _Process.recorder
    if recorder is None:
        return
    times_ns = began_ns, time.time_ns() if ended_ns is None else ended_ns
    for headers in requests:
        if parent := sampled(headers):
            recorder.record(name, parent, times_ns, what)


def trace_id(requests: Iterable[Headers]) -> str | None:
    """Return the trace of the first of these requests that is sampled; None if tracing is off."""
    found = first_sampled(requests) if is_on() else None
    return None if found is None else found.trace_id


def in_log(headers: Headers) -> dict[str, str]:
    """Return the field that a log line about a request has, if that is traced."""
    found = trace_id([headers])
    return {} if found is None else {"traceId": found}
