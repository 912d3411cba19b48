"""A collector of traces: it takes what the exporter sends by OTLP, and keeps the spans."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan


class SpanFact(NamedTuple):
    """The facts about a span that a test, or a picture, shows."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty for the first span of a trace."""
    began_ns: int
    ended_ns: int

    @classmethod
    def of(cls, service: str, span: ReadableSpan) -> "SpanFact":
        """Return the facts about a span of this process."""
        context, parent = span.get_span_context(), span.parent
        assert context is not None
        return cls(
            service,
            span.name,
            f"{context.trace_id:032x}",
            f"{context.span_id:016x}",
            "" if parent is None else f"{parent.span_id:016x}",
            span.start_time or 0,
            span.end_time or 0,
        )


class Collector:
    """The spans that were received.

    Attributes:
        url: Where to send it: the value of `OTEL_EXPORTER_OTLP_ENDPOINT`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._spans: list[SpanFact] = []

    def take(self, body: bytes) -> None:
        """Take in one request of an exporter."""
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            attributes = {
                each.key: each.value.string_value for each in resource.resource.attributes
            }
            found = [
                SpanFact(
                    attributes["service.name"],
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                )
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            with self._lock:
                self._spans += found

    def spans(self) -> list[SpanFact]:
        """Return all spans, by the time at which they began."""
        with self._lock:
            return sorted(self._spans, key=lambda span: span.began_ns)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
