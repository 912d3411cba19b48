"""Bytewax's own metrics: switched on and off for real, and merged into ours."""

import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)

from dataflow.errors import SettingsError
from dataflow.observability.engine_metrics import EngineMetrics, prepare_engine_api
from tests import ROOT
from tests.support.kafka import ports

ENABLED = "BYTEWAX_DATAFLOW_API_ENABLED"
PORT = "BYTEWAX_DATAFLOW_API_PORT"
CACHE_PATH = "BYTEWAX_DATAFLOW_API_CACHE_PATH"

# A flow of 200 items at about 1 ms. `scrapers` threads, each with a collector of its own, ask for
# the engine's metrics all the while; the source's close() closes them, as the product's must.
FLOW = """
import json, os, sys, threading, time
import bytewax.operators as op
from bytewax._bytewax import cli_main
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.testing import TestingSink
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from dataflow.observability.engine_metrics import EngineMetrics, prepare_engine_api

scrapers, fails = int(sys.argv[1]), sys.argv[2] == "fails"
port = prepare_engine_api(os.environ)
# Its answer is looked at once.
engine = EngineMetrics(port or 1, timeout_s=60)
registry = CollectorRegistry(auto_describe=True)
registry.register(engine)
seen = {"port": port}

class Part(StatefulSourcePartition):
    n = 0
    def next_batch(self):
        self.n += 1
        if self.n > 200:
            if fails:
                raise RuntimeError("on purpose")
            raise StopIteration
        if self.n == 100:
            seen["text"] = generate_latest(registry).decode()
            seen["openmetrics"] = generate_openmetrics(registry).decode()
        time.sleep(0.001)
        return [("key", self.n)]
    def snapshot(self):
        return None
    def close(self):
        for collector in (engine, *scraping):
            collector.close()

class Source(FixedPartitionedSource):
    def list_parts(self):
        return ["only"]
    def build_part(self, *args):
        return Part()

def scrape(collector):
    while True:
        list(collector.collect())

scraping = [EngineMetrics(port or 1) for _ in range(scrapers)]
for collector in scraping:
    threading.Thread(target=scrape, args=[collector], daemon=True).start()
flow = Dataflow("tiny")
stream = op.input("in", flow, Source())
stream = op.stateful_map("count", stream, lambda state, item: ((state or 0) + 1, item))
op.output("out", stream, TestingSink([]))
try:
    cli_main(flow)
finally:
    print(json.dumps(seen))
"""


def run_flow(
    *, scrapers: int = 0, fails: bool = False, env: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    """Return the flow's exit code, and what it saw of the engine's metrics half way through."""
    clean = {name: value for name, value in os.environ.items() if "BYTEWAX" not in name}
    done = subprocess.run(
        [sys.executable, "-c", FLOW, str(scrapers), "fails" if fails else "ends"],
        env={**clean, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def parsed(openmetrics: str) -> list[Metric]:
    """Return what the strict parser reads; it raises on anything that is not OpenMetrics."""
    return list(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]


class TestPrepare:
    def test_it_is_on_with_a_free_port_and_a_place_to_write(self) -> None:
        environ: dict[str, str] = {}
        port = prepare_engine_api(environ)
        assert environ[ENABLED] == "1"
        assert environ[PORT] == str(port)
        assert Path(environ[CACHE_PATH]).is_dir()

    @pytest.mark.parametrize("value", ["", "0", "false", "False", " NO ", "off"])
    def test_a_value_that_means_no_removes_the_variable(self, value: str) -> None:
        """The engine only asks whether it is set: `false` would switch it on."""
        environ = {ENABLED: value, PORT: "3030"}
        assert prepare_engine_api(environ) is None
        assert ENABLED not in environ

    def test_given_values_are_kept(self, tmp_path: Path) -> None:
        [port] = ports.free(1)
        environ = {ENABLED: "yes", PORT: str(port), CACHE_PATH: str(tmp_path)}
        assert prepare_engine_api(environ) == port
        assert environ == {ENABLED: "1", PORT: str(port), CACHE_PATH: str(tmp_path)}

    @pytest.mark.parametrize("port", ["http", "-1", "0", "65536", "30.30", "²"])
    def test_a_port_that_is_none_is_refused(self, port: str) -> None:
        """The engine would go on without its server, after a stack trace."""
        with pytest.raises(SettingsError, match=PORT):
            prepare_engine_api({PORT: port})

    def test_a_taken_port_is_refused(self) -> None:
        """The engine would go on, and we would read its owner's metrics as our own."""
        with socket.create_server(("127.0.0.1", 0)) as owner:
            port = owner.getsockname()[1]
            with pytest.raises(SettingsError, match=f"{PORT}: port {port} cannot be used"):
                prepare_engine_api({PORT: str(port)})

    def test_nowhere_to_write_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A read-only container without /tmp; the engine would die of a bare `No such file`."""
        monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
        with pytest.raises(SettingsError, match=f"{CACHE_PATH}: needs a writable directory"):
            prepare_engine_api({})

    def test_a_cache_path_that_is_no_directory_is_refused(self) -> None:
        with pytest.raises(SettingsError, match=f"{CACHE_PATH}: '/nonexistent' is no directory"):
            prepare_engine_api({CACHE_PATH: "/nonexistent"})


class TestWithTheEngine:
    def test_its_families_are_merged_into_both_formats(self) -> None:
        code, seen = run_flow()
        assert code == 0
        assert "payments_engine_metrics_up 1.0\n" in seen["text"]
        assert "# TYPE bytewax_item_out_count_total counter\n" in seen["text"]
        assert (
            'bytewax_item_inp_count_total{otel_scope_name="bytewax",step_id="tiny.out"'
            in (seen["text"])
        )
        assert "python_info" not in seen["text"], "only bytewax_*: the rest we expose ourselves"

        families = {family.name: family for family in parsed(seen["openmetrics"])}
        assert families["bytewax_item_out_count"].type == "counter"
        histogram = families["bytewax_inp_part_next_batch_duration_seconds"]
        assert histogram.type == "histogram"
        bounds = [s.labels["le"] for s in histogram.samples if s.name.endswith("_bucket")]
        assert bounds[:3] == ["0.0", "0.0005", "0.005"]
        assert {"1.0", "10.0", "+Inf"} <= set(bounds)

    def test_switched_off_it_listens_on_nothing(self) -> None:
        code, seen = run_flow(env={ENABLED: "false"})
        assert code == 0
        assert seen["port"] is None
        assert "payments_engine_metrics_up 0.0\n" in seen["text"]
        assert "bytewax_" not in seen["text"]

    @pytest.mark.parametrize("fails", [False, True])
    def test_a_scrape_at_the_end_does_not_hang_the_process(self, *, fails: bool) -> None:
        """Without `close` it hangs here nearly every time: see `EngineMetrics`."""
        code, seen = run_flow(scrapers=8, fails=fails)
        assert code == (1 if fails else 0)
        assert "payments_engine_metrics_up 1.0\n" in seen["text"]


def scraped(engine: EngineMetrics) -> str:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(engine)
    return generate_latest(registry).decode()


class TestWithoutTheEngine:
    """The answer on the port, or its absence: one metric shows it, and nothing is raised."""

    DOWN = "payments_engine_metrics_up 0.0\n"

    def test_nothing_listens(self) -> None:
        [port] = ports.free(1)
        text = scraped(EngineMetrics(port))
        assert text.endswith(self.DOWN)
        assert "bytewax_" not in text

    def test_it_never_answers(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            engine = EngineMetrics(silent.getsockname()[1], timeout_s=0.1)
            assert scraped(engine).endswith(self.DOWN)
            engine.close()

    @pytest.fixture
    def reply(self) -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
        """Yield the replies of a server that gives the first one of the list, `(status, body)`."""
        replies: list[tuple[int, bytes]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = replies[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server.server_port, replies
            server.shutdown()
            thread.join()

    @pytest.mark.parametrize(
        "answer",
        [
            (500, b"bytewax_up 1\n"),
            (200, b"\xff\xfe"),
            (200, b"bytewax_up {one\n"),
            (200, b"# TYPE bytewax_up\n"),
            (200, b"\n" * 9 * 2**20),
        ],
        ids=["an error", "not UTF-8", "not a metric", "half a line", "too much"],
    )
    def test_something_else_answers(
        self, reply: tuple[int, list[tuple[int, bytes]]], answer: tuple[int, bytes]
    ) -> None:
        port, replies = reply
        replies.append(answer)
        text = scraped(EngineMetrics(port))
        assert text.endswith(self.DOWN)
        assert "bytewax_" not in text

    def test_instruments_of_one_name_become_one_family(
        self, reply: tuple[int, list[tuple[int, bytes]]]
    ) -> None:
        """The engine has three that time the writing of its store, with no label between them."""
        instrument = b"""
# TYPE bytewax_write_seconds histogram
bytewax_write_seconds_bucket{part="0",le="1"} 1
bytewax_write_seconds_bucket{part="0",le="+Inf"} 2
bytewax_write_seconds_sum{part="0"} 1.5
bytewax_write_seconds_count{part="0"} 2
"""
        port, replies = reply
        replies.append((200, instrument * 3))
        text = scraped(EngineMetrics(port, timeout_s=60))
        assert text.count("# TYPE bytewax_write_seconds histogram") == 1
        lines = [line for line in text.splitlines() if line.startswith("bytewax_write")]
        assert lines == [
            'bytewax_write_seconds_bucket{le="1.0",part="0"} 3.0',
            'bytewax_write_seconds_bucket{le="+Inf",part="0"} 6.0',
            'bytewax_write_seconds_sum{part="0"} 4.5',
            'bytewax_write_seconds_count{part="0"} 6.0',
        ]

    def test_it_polls_no_more_once_closed(self, reply: tuple[int, list[tuple[int, bytes]]]) -> None:
        port, replies = reply
        replies.append((200, b"# TYPE bytewax_x gauge\nbytewax_x 1\n"))
        engine = EngineMetrics(port, timeout_s=60)
        assert "bytewax_x 1.0\n" in scraped(engine)
        engine.close()
        engine.close()
        assert scraped(engine).endswith(self.DOWN)

    def test_registering_it_reads_nothing(self) -> None:
        """The engine is not up yet then."""

        class Asked(EngineMetrics):
            def collect(self) -> Iterator[Metric]:
                raise AssertionError

        CollectorRegistry(auto_describe=True).register(Asked(1))


def test_openmetrics_of_an_engine_is_strictly_valid() -> None:
    """An empty registry, a closed engine: still a complete document."""
    engine = EngineMetrics(1)
    engine.close()
    registry = CollectorRegistry(auto_describe=True)
    registry.register(engine)
    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    assert [family.name for family in parsed(text)] == ["payments_engine_metrics_up"]
