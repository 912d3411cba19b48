"""A lost lane log, made again by the tool from what the flow has published, on a real Kafka."""

from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.parsing import parse
from schemas.requests import PaymentRequest
from tests.integration.test_lane_log import emptied_log, recreated, shortened
from tests.integration.test_parking import PARKS_LATE, POISON
from tests.integration.test_tools import result, run
from tests.support.flow_process import Flow, Topics, mixed_requests, request, send
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 600
Lose = Callable[[Cluster, Topics], str]


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def decide(kafka: Cluster, topics: Topics, directory: Path, count: int) -> None:
    """Run the flow until it has gone through so many records; one of them waits."""
    with Flow(kafka, topics, directory, environ=PARKS_LATE) as flow:
        flow.wait_until_decided(count)
        assert flow.terminate() == 0


@pytest.mark.parametrize("lose", [recreated, shortened, emptied_log])
def test_nothing_is_decided_again(
    lose: Lose, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Neither what has an outcome, nor what waits for the gateway."""
    requests = [*mixed_requests(COUNT, seed=1), request(POISON)]
    count = send(kafka, topics, iter(requests))
    decide(kafka, topics, tmp_path, count)
    lose(kafka, topics)
    with Flow(kafka, topics, tmp_path, environ=PARKS_LATE) as flow:
        assert "payments rebuild-log --write" in flow.refusal()

    code, counted = result(kafka, topics, "rebuild-log")
    assert (code, counted["written"]) == (0, None)
    code, made = result(kafka, topics, "rebuild-log", "--write")
    parsed = (parse(each, len(each)) for each in requests)
    valid = {each.payment_id for each in parsed if isinstance(each, PaymentRequest)}
    assert (code, made["ids"], made["written"], made["waiting"]) == (0, len(valid), len(valid), 1)
    assert made["withoutContent"] == made["unreadable"] == 0

    count += send(kafka, topics, iter(requests))
    decide(kafka, topics, tmp_path, count)
    assert check(kafka, topics).problems == []


def test_a_flow_that_runs_is_ended_before_anything_is_written(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Or it would go on with a memory that is older than the log."""
    send(kafka, topics, (request(f"pay-{n}") for n in range(90)))
    with Flow(kafka, topics, tmp_path) as flow:
        flow.wait_until_decided(90)
        assert result(kafka, topics, "rebuild-log", "--write")[1]["written"] == 90
        send(kafka, topics, (request(f"pay-{n}") for n in range(90)))
        assert flow.wait_for_exit() == 1
        assert "FencedError" in flow.log
    decide(kafka, topics, tmp_path, 180)
    assert check(kafka, topics).problems == []


def test_other_lanes_than_the_flow_had_are_refused(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, iter([request("pay-1")]))
    decide(kafka, topics, tmp_path, 1)
    code, _, err = run(kafka, topics, "rebuild-log", "--write", LANES="8")
    assert code == 2
    assert "LANES is 8, but the lanes have committed with 4" in err
