"""`COMMIT_INTERVAL` paces the commits, whatever snapshot interval the engine is given."""

import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, request, send
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 300


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def commits(flow: Flow) -> int:
    """Return how many transactions it has committed."""
    name = "kafka_commit_duration_seconds_count "
    [line] = [line for line in flow.metrics().splitlines() if line.startswith(name)]
    return round(float(line.removeprefix(name)))


def command_line(flow: Flow) -> list[str]:
    return Path(f"/proc/{flow.process.pid}/cmdline").read_text().split("\0")[:-1]


NOTHING = {
    "COMMIT_INTERVAL": "",
    "BYTEWAX_RECOVERY_DIRECTORY": "",
    "BYTEWAX_SNAPSHOT_INTERVAL": "",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "",
}


@pytest.mark.parametrize(
    ("args", "environ", "given_s", "taken"),
    [
        ([], NOTHING, 10, "-1"),
        # Bytewax takes 0 for its default when there is no recovery directory.
        ([], {"BYTEWAX_RECOVERY_DIRECTORY": ""}, 0, "-1"),
        (["-s", "10"], {}, 10, "0"),
        (["-s", "0"], {}, None, "0"),
    ],
)
def test_every_batch_is_an_epoch_with_any_interval_of_the_engine(
    args: list[str],
    environ: dict[str, str],
    given_s: int | None,
    taken: str,
    kafka: Cluster,
    topics: Topics,
    tmp_path: Path,
) -> None:
    """Nothing at all, the engine's own default, or what is right already."""
    with Flow(kafka, topics, tmp_path, *args, environ=environ) as flow:
        send(kafka, topics, mixed_requests(COUNT, seed=1))
        flow.wait_until_decided(COUNT)
        assert command_line(flow)[-2:] == ["-s", taken]
        assert flow.terminate() == 0
    again = [entry for entry in flow.entries if "runs itself again" in entry["event"]]
    assert [entry["snapshot_interval_s"] for entry in again] == (
        [] if given_s is None else [given_s]
    )
    assert check(kafka, topics).problems == []


def test_records_that_come_one_by_one_share_a_transaction(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """There are no more transactions than intervals, however long all of it takes."""
    environ = {"LANES": "1"}
    with Flow(kafka, topics, tmp_path, environ=environ, commit_interval="1s") as flow:
        flow.wait_until_ready()
        began_s = time.monotonic()
        sender = Producer({"bootstrap.servers": kafka.bootstrap})
        for n in range(60):
            sender.produce(topics.requested, request(f"pay-{n}"), partition=n % 3)
            assert sender.flush(LIMIT_S) == 0
            time.sleep(0.05)
        flow.wait_until_decided(60)
        assert 1 <= commits(flow) <= time.monotonic() - began_s + 2
        assert flow.terminate() == 0
    assert check(kafka, topics).problems == []
