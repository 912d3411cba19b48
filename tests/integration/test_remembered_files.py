"""Files of remembered ids, on a real Kafka: a cache of the lanes' log, whatever happens to them.

Memory is so small here that every lane makes a file in every epoch.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from dataflow.dedupe.manifest import FILE_NAME, Manifest, write_manifest
from dataflow.dedupe.run_format import PAGE
from tests.support.flow_process import (
    Flow,
    Topics,
    mixed_requests,
    read_all,
    request,
    run_until_decided,
    send,
)
from tests.support.hooks.tuning import SMALL_MEMORY
from tests.support.invariants import check
from tests.support.kafka import Cluster

COUNT = 600


@pytest.fixture
def topics(kafka: Cluster) -> Topics:
    return Topics.fresh(kafka)


def ids(directory: Path) -> Path:
    return directory / "recovery" / "remembered-ids"


def runs(directory: Path) -> list[Path]:
    return sorted(ids(directory).rglob("*.run"))


def read_back(flow: Flow) -> int:
    """Return how many entries of the log a start has read."""
    (line,) = (line for line in flow.entries if line["event"] == "lane log read")
    return int(line["entries"])


def types(kafka: Cluster, topics: Topics) -> Counter[str]:
    """Count the audit events by their type."""
    events = [json.loads(message.value() or b"") for message in read_all(kafka, topics.outputs[2])]
    return Counter(event["eventType"] for event in events)


def send_in_epochs(kafka: Cluster, topics: Topics, flow: Flow, values: Iterator[bytes]) -> int:
    """Send a few at a time, as long as the flow runs; return how many were sent.

    A file is made when an epoch comes after the one that has claimed its ids.
    """
    sent = 0
    while flow.process.poll() is None and (some := list(islice(values, 40))):
        decided = flow.decided()  # before they are sent: they may be done with at once
        sent += send(kafka, topics, iter(some))
        while flow.process.poll() is None and flow.decided() <= decided:
            time.sleep(0.02)
    return sent


def filled(kafka: Cluster, topics: Topics, directory: Path, **environ: str) -> None:
    """Have ids in files."""
    with Flow(kafka, topics, directory, environ=SMALL_MEMORY | environ) as flow:
        flow.wait_until_ready()
        send_in_epochs(kafka, topics, flow, (request(f"pay-{n}") for n in range(COUNT)))
        flow.wait_until_decided(COUNT)
        assert flow.terminate() == 0
    assert runs(directory)


def assert_all_are_known(
    kafka: Cluster, topics: Topics, directory: Path, environ: dict[str, str] | None = None
) -> Flow:
    """Send every request again, to another partition."""
    send(kafka, topics, iter([b"", *(request(f"pay-{n}") for n in range(COUNT))]))
    flow = run_until_decided(kafka, topics, directory, 2 * COUNT + 1, environ or SMALL_MEMORY)
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == COUNT
    return flow


def test_a_start_reads_only_what_the_files_do_not_have(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    filled(kafka, topics, tmp_path)
    with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
        flow.wait_until_ready()
        assert flow.terminate() == 0
    # What was restored is in files as well, once the next start has made them.
    again = assert_all_are_known(kafka, topics, tmp_path)
    assert read_back(again) == 0
    shutil.rmtree(ids(tmp_path))
    send(kafka, topics, iter([request("pay-0")]))
    without = run_until_decided(kafka, topics, tmp_path, 2 * COUNT + 2, SMALL_MEMORY)
    assert read_back(without) >= COUNT
    assert types(kafka, topics)["payment.duplicate"] == COUNT + 1


@pytest.mark.parametrize(
    "point",
    [
        "file-written:3",
        "file-listed:2",
        "flushed:3",
        "claims-flushed:3",
        "after-commit:2",
        "all-committed:4",
    ],
)
def test_killed_while_files_are_written(
    kafka: Cluster, topics: Topics, tmp_path: Path, point: str
) -> None:
    """The files are those of what is committed: see also `test_outages.py`, of zombies."""
    sent = 0
    for seed in (1, 2):
        with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": point, **SMALL_MEMORY}) as flow:
            values = mixed_requests(100 * COUNT, seed)
            sent += send_in_epochs(kafka, topics, flow, values)
            assert flow.wait_for_exit() == -9
    sent += send(kafka, topics, mixed_requests(COUNT, seed=1))
    run_until_decided(kafka, topics, tmp_path, sent, SMALL_MEMORY)
    assert check(kafka, topics).problems == []


def deleted(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def changed(path: Path) -> None:
    """Change the filter, or the first line of a manifest."""
    data = bytearray(path.read_bytes())
    data[min(PAGE, len(data) // 2)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [deleted, cut, emptied, changed])
@pytest.mark.parametrize("which", ["*.run", "manifest", "*"])
def test_damaged_files_cost_time_only(
    kafka: Cluster, topics: Topics, tmp_path: Path, damage: Callable[[Path], None], which: str
) -> None:
    filled(kafka, topics, tmp_path)
    for path in [path for path in ids(tmp_path).rglob(which) if path.is_file()]:
        damage(path)
    assert_all_are_known(kafka, topics, tmp_path)


def test_files_of_another_flow_are_thrown_away(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Their ids would make payments duplicates that were never charged here."""
    theirs = Topics.fresh(kafka)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    filled(kafka, theirs, tmp_path / "theirs")
    with Flow(kafka, topics, tmp_path / "ours", environ=SMALL_MEMORY) as flow:
        flow.wait_until_ready()
        assert flow.terminate() == 0
    shutil.rmtree(ids(tmp_path / "ours"), ignore_errors=True)
    shutil.copytree(ids(tmp_path / "theirs"), ids(tmp_path / "ours"))
    send(kafka, topics, (request(f"pay-{n}") for n in range(COUNT)))
    run_until_decided(kafka, topics, tmp_path / "ours", COUNT, SMALL_MEMORY)
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.processed"] > 0


def test_files_that_reach_beyond_the_log_are_thrown_away(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """The log has lost its end: what was written there since would not be read."""
    filled(kafka, topics, tmp_path)
    for path in ids(tmp_path).rglob(FILE_NAME):
        found = msgspec.json.decode(path.read_bytes().partition(b"\n")[2], type=Manifest)
        position = dict.fromkeys(found.position, 10**9)
        runs = [msgspec.structs.replace(run, since=position) for run in found.runs[:-1]]
        write_manifest(path.parent, msgspec.structs.replace(found, position=position, runs=runs))
    flow = assert_all_are_known(kafka, topics, tmp_path)
    assert "they reach beyond the end of the lane log" in flow.log


def test_an_old_copy_of_the_files_is_as_good_as_any(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    filled(kafka, topics, tmp_path)
    old = Path(shutil.copytree(ids(tmp_path), tmp_path / "old"))
    send(kafka, topics, (request(f"more-{n}") for n in range(COUNT)))
    run_until_decided(kafka, topics, tmp_path, 2 * COUNT, SMALL_MEMORY)
    shutil.rmtree(ids(tmp_path))
    shutil.copytree(old, ids(tmp_path))
    for prefix in ("pay", "more"):
        send(kafka, topics, iter([b"", *(request(f"{prefix}-{n}") for n in range(COUNT))]))
    run_until_decided(kafka, topics, tmp_path, 4 * COUNT + 2, SMALL_MEMORY)
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == 2 * COUNT


def test_a_damaged_block_ends_the_process_and_the_next_one_goes_on(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    filled(kafka, topics, tmp_path)
    paths = runs(tmp_path)[:2]  # each of them may end a process
    for path in paths:
        data = bytearray(path.read_bytes())
        data[2 * PAGE + 8] ^= 1  # of the first block, after header and filter
        path.write_bytes(data)
    send(kafka, topics, iter([b"", *(request(f"pay-{n}") for n in range(COUNT))]))
    ended = 0
    while True:
        with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
            while flow.process.poll() is None and flow.decided() < 2 * COUNT + 1:
                time.sleep(0.05)
            if flow.process.poll() is None:
                assert flow.terminate() == 0
                break
            assert "a file of remembered ids is damaged" in flow.log
            ended += 1
            assert ended <= len(paths)
    assert ended
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == COUNT


def test_a_directory_that_cannot_be_written_keeps_ids_in_memory(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    (tmp_path / "recovery").mkdir()
    ids(tmp_path).write_bytes(b"in the way")
    with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
        flow.wait_until_ready()
        send_in_epochs(kafka, topics, flow, (request(f"pay-{n}") for n in range(COUNT)))
        flow.wait_until_decided(COUNT)
        assert "payments_remembered_files_failing 1.0" in flow.metrics()
        assert flow.health()["recovery"]["id_files_failing"]
        assert flow.terminate() == 0
    assert "files of remembered ids could not be written" in flow.log
    assert_all_are_known(kafka, topics, tmp_path)


@pytest.mark.parametrize(("before", "after"), [("4", "2"), ("2", "6")])
def test_another_number_of_lanes_needs_other_files(
    kafka: Cluster, topics: Topics, tmp_path: Path, before: str, after: str
) -> None:
    filled(kafka, topics, tmp_path, LANES=before)
    assert_all_are_known(kafka, topics, tmp_path, {**SMALL_MEMORY, "LANES": after})
    assert len(list(ids(tmp_path).iterdir())) <= int(after)
