"""Exactly once, on a real Kafka: in every shape, through every crash."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, send
from tests.support.invariants import check
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

COUNT = 2_000
"""More than a first epoch has: a run is killed in its first one, or in a later one."""


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def all_decided(*flows: Flow) -> bool:
    """Return whether everything sent so far is committed, according to /health."""
    partitions = {n: p for flow in flows for n, p in flow.health().get("partitions", {}).items()}
    return len(partitions) == 3 and all(p["lag"] == 0 for p in partitions.values())


def run_to_the_end(kafka: Cluster, topics: Topics, directory: Path, **environ: str) -> Flow:
    """Run once without faults, until all is decided, and stop cleanly."""
    with Flow(kafka, topics, directory, environ=environ) as flow:
        flow.wait_until_ready()
        flow.wait(lambda: all_decided(flow), LIMIT_S, "decided")
        assert flow.terminate() == 0
    return flow


def test_one_process_decides_50000_requests_once(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    send(kafka, topics, mixed_requests(50_000, seed=1))
    run_to_the_end(kafka, topics, tmp_path)
    findings = check(kafka, topics)
    assert not findings.problems
    assert findings.counts["records"] == 50_000
    assert findings.counts["payment.duplicate"] > 10_000
    assert findings.counts["payment.conflict"] > 1_000


# The first of each is after a quiet moment, in which all that was sent before is decided.
CRASHES = [
    ["flushed:6"],
    ["before-commit:6", "before-commit:1", "decided:3", "mid-batch:6"],
    ["claims-flushed:6", "claims-flushed:2", "claims-committed:2"],
    ["after-commit:6", "after-commit:4", "after-commit:2", "after-commit:1"],
]


@pytest.mark.parametrize("crashes", CRASHES, ids=", ".join)
def test_killed_again_and_again(
    crashes: Sequence[str], kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Each run resumes from what the one before has left, so one run without faults ends them."""
    for seed, crash in enumerate(crashes):
        crash_once(crash, kafka, topics, tmp_path, seed)
    run_to_the_end(kafka, topics, tmp_path)
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize("crashes", [["replay:1"], ["restoring:1", "restored:1"]], ids=", ".join)
def test_killed_again_while_it_resumes(
    crashes: Sequence[str], kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    crash_once("after-commit:6", kafka, topics, tmp_path)
    for crash in crashes:
        with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": crash}) as flow:
            assert flow.wait_for_exit() == -9
    run_to_the_end(kafka, topics, tmp_path)
    assert check(kafka, topics).problems == []


def crash_once(
    crash: str, kafka: Cluster, topics: Topics, directory: Path, seed: int = 0, **environ: str
) -> None:
    """Kill a run in its first or second epoch; the same ids come before and after."""
    send(kafka, topics, mixed_requests(COUNT, seed))
    environ = {"CRASH_AT": crash, **environ}
    with Flow(kafka, topics, directory, environ=environ) as flow:
        flow.wait_or_end(lambda: all_decided(flow), LIMIT_S, "decided")
        send(kafka, topics, mixed_requests(COUNT, seed + 100))
        assert flow.wait_for_exit() == -9
    send(kafka, topics, mixed_requests(COUNT, seed))


def test_no_store_and_several_epochs_behind(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    """All ids are known before anything is decided, in whatever order partitions come back."""
    first = list(mixed_requests(2_000, seed=8))
    send(kafka, topics, iter(first))
    armed = tmp_path / "armed"
    environ = {"CRASH_AT": "flushed:3", "CRASH_ARMED": str(armed), "BREAK": "no-group-offsets"}
    with Flow(kafka, topics, tmp_path, environ=environ) as flow:
        flow.wait(lambda: all_decided(flow), LIMIT_S, "decided")
        armed.touch()
        # The same ids once more, each on another partition: duplicates, committed by no lane yet.
        send(kafka, topics, iter([b"", *first]))
        assert flow.wait_for_exit() == -9
    shutil.rmtree(tmp_path / "recovery")
    run_to_the_end(kafka, topics, tmp_path)
    assert check(kafka, topics).problems == []


def test_two_workers_and_who_was_first_after_a_restart(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Copies come together on partitions of different workers.

    The second time, they meet an index that was read back.
    """
    for _ in range(2):
        send(kafka, topics, mixed_requests(4_000, seed=5))
        with Flow(kafka, topics, tmp_path, "-w", "2") as flow:
            flow.wait_until_ready()
            flow.wait(lambda flow=flow: all_decided(flow), LIMIT_S, "decided")
            assert flow.terminate() == 0
    findings = check(kafka, topics)
    assert findings.problems == []
    assert findings.counts["payment.conflict"] > 160


def test_two_processes(kafka: Cluster, topics: Topics, tmp_path: Path) -> None:
    send(kafka, topics, mixed_requests(8_000, seed=6))
    addresses = ";".join(f"127.0.0.1:{port}" for port in free(2))
    with (
        Flow(kafka, topics, tmp_path, "-i", "0", "-a", addresses) as first,
        Flow(kafka, topics, tmp_path, "-i", "1", "-a", addresses) as second,
    ):
        first.wait_until_ready()
        second.wait_until_ready()
        first.wait(lambda: all_decided(first, second), LIMIT_S, "decided")
        # One of them is asked to stop; both do.
        assert first.terminate() == 0
        assert second.wait_for_exit() == 0
    assert check(kafka, topics).problems == []


@pytest.mark.parametrize(
    ("broken", "crash"),
    [
        ("no-replay", "after-commit:6"),
        ("offsets-outside-the-transaction", "flushed:6"),
    ],
)
def test_the_checks_notice(
    broken: str, crash: str, kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Take one guarantee away, and the same scenario doubles or loses payments.

    `make mutants` takes away all of them.
    """
    crash_once(crash, kafka, topics, tmp_path, BREAK=broken)
    run_to_the_end(kafka, topics, tmp_path, BREAK=broken)
    assert check(kafka, topics).problems
