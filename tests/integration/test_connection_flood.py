"""Crowds at the sidecar's ports: the flow goes on beside them, and decides everything once."""

import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from flow_process import Flow, Topics, mixed_requests, send
from invariants import check
from kafkatest import Cluster

COUNT = 3_000
SCRAPES = 1_000
SILENT = 300


def test_a_thousand_scrapes_and_connections_that_say_nothing(
    kafka: Cluster, tmp_path: Path
) -> None:
    topics = Topics.fresh(kafka)
    with Flow(kafka, topics, tmp_path) as flow, ExitStack() as flood:
        flow.wait_until_ready()
        for port in (flow.port, flow.metrics_port):
            for _ in range(SILENT):
                held = socket.create_connection(("127.0.0.1", port), timeout=30)
                flood.enter_context(held).sendall(b"GET /live HTTP/1.1\r\nHost: ")
        send(kafka, topics, mixed_requests(COUNT, seed=31))
        with ThreadPoolExecutor(SCRAPES) as pool:
            scrape = pool.map(lambda _: flow.get("/metrics", flow.metrics_port)[0], range(SCRAPES))
            probe = pool.map(lambda _: flow.get("/live")[0], range(SCRAPES // 10))
            scraped, probed = Counter(scrape), Counter(probe)
        # Too many at once are answered so, rather than kept waiting.
        assert set(scraped) <= {200, 503}, scraped
        assert set(probed) <= {200, 503}, probed
        flow.wait(lambda: flow.get("/live")[0] == 200, 30, "answering probes")
        flow.wait(lambda: flow.get("/metrics", flow.metrics_port)[0] == 200, 30, "scraped")
        flow.wait_until_decided(COUNT)
        assert flow.terminate() == 0
    assert not check(kafka, topics).problems
