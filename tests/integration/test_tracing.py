"""One trace of a payment: from its producer, through the flow, to a consumer of its outcome."""

import re
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from tests.integration.test_parking import book_of, is_done, pending
from tests.pictures.trace_plot import IMAGE, svg
from tests.support.collector import collecting
from tests.support.flow_process import LIMIT_S, Flow, Topics
from tests.support.kafka import Cluster
from tests.support.traced import Service, by_trace, environ, follow, has_all


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def test_a_payment_has_one_trace_from_its_producer_to_the_consumer_of_its_outcome(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """And the payments around it, whose traces are not sampled, have none."""
    with collecting() as collector:
        traces = follow(kafka, topics, tmp_path, collector)
    [spans] = traces.values()
    assert [(span.service, span.name) for span in spans] == [
        ("shop", "send"),
        ("payments-service", "decode"),
        ("payments-service", "dedupe"),
        ("payments-service", "gateway"),
        ("payments-service", "commit"),
        ("ledger", "receive"),
    ]
    root, *children = spans
    assert root.parent_id == ""
    assert {span.parent_id for span in children} == {root.span_id}
    assert all(span.began_ns <= span.ended_ns for span in spans)
    shown = re.findall(r"<title>([^<]*)</title>", svg(spans))
    assert [each.partition(":")[0] for each in shown] == [
        each.partition(":")[0] for each in re.findall(r"<title>([^<]*)</title>", IMAGE.read_text())
    ], "python -m tests.pictures.trace"


def test_a_parked_payment_is_in_its_trace_after_a_restart(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    with collecting() as collector:
        shop = Service("shop")
        shop.send(kafka, topics, "late:hangs")
        settings = {**book_of(tmp_path), **environ(collector)}
        down = tmp_path / "book.down"
        down.touch()
        with Flow(kafka, topics, tmp_path, environ=settings) as flow:
            flow.wait_until_ready()
            flow.wait(lambda: pending(flow) == 1, LIMIT_S, "parked")
            flow.wait(lambda: has_all(collector), LIMIT_S, "followed")
            assert flow.terminate() == 0
        before = len(collector.spans())
        down.unlink()
        with Flow(kafka, topics, tmp_path, environ=settings) as flow:
            flow.wait(lambda: is_done(kafka, topics, flow, 1), LIMIT_S, "decided")
            flow.wait(lambda: has_all(collector, before), LIMIT_S, "followed")
            assert flow.terminate() == 0
        [spans] = by_trace([*shop.spans(), *collector.spans()]).values()
    after = [span.name for span in collector.spans()[before:]]
    assert (after[0], after[-1]) == ("gateway", "commit")
    assert [span.name for span in spans].count("decode") == 1, "it is read once"


def test_the_latency_has_a_trace_as_an_example(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    with collecting() as collector:
        shop = Service("shop")
        shop.send(kafka, topics, "pay-1")
        with Flow(kafka, topics, tmp_path, environ=environ(collector)) as flow:
            flow.wait_until_ready()
            flow.wait_until_decided(1)
            flow.wait(lambda: all(examples(flow).values()), LIMIT_S, "showing examples")
            shown = examples(flow)
            assert flow.terminate() == 0
    [span] = shop.spans()
    assert shown == {name: [span.trace_id] for name in shown}


def examples(flow: Flow) -> dict[str, list[str]]:
    """Return the traces that each latency of a flow has as examples."""
    ask = Request(
        f"http://127.0.0.1:{flow.metrics_port}/metrics",
        headers={"Accept": "application/openmetrics-text; version=1.0.0"},
    )
    with urlopen(ask) as response:  # noqa: S310  (to the flow)
        scraped = response.read().decode()
    return {
        name: re.findall(rf'{name}_duration_seconds_bucket.* # {{trace_id="(\w+)"}}', scraped)
        for name in ("payment_processing", "payment_visible", "payments_gateway_call")
    }
