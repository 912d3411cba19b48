"""Crowds at the sidecar's ports: the flow goes on beside them, and decides everything once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.connection_flood import SCRAPES, silent_connections, statuses
from tests.support.flow_process import Flow, Topics, mixed_requests, send
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 3_000


def test_a_thousand_scrapes_and_silent_connections(kafka: Cluster, tmp_path: Path) -> None:
    topics = Topics.fresh(kafka)
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_ready()
        with silent_connections(flow.port, flow.metrics_port), ThreadPoolExecutor(2) as pool:
            send(kafka, topics, mixed_requests(COUNT, seed=31))
            scrapes = pool.submit(statuses, flow.metrics_port, "/metrics", SCRAPES)
            probes = pool.submit(statuses, flow.port, "/live", SCRAPES // 10)
            scraped, probed = scrapes.result(), probes.result()
            # Too many at once are answered so, rather than kept waiting.
            assert set(scraped) <= {200, 503}, scraped
            assert set(probed) <= {200, 503}, probed
            flow.wait(lambda: flow.get("/live")[0] == 200, 60, "answering probes")
            flow.wait(lambda: flow.get("/metrics", flow.metrics_port)[0] == 200, 60, "scraped")
            flow.wait_until_decided(COUNT)
            assert flow.terminate() == 0
    assert not check(kafka, topics).problems
