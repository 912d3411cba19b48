"""Files of remembered ids, on a real Kafka: a cache of the lanes' log, whatever happens to them.

Memory is so small here that every lane makes a file in every epoch.
"""

import json
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataflow.dedupe.manifest import FILE_NAME, Manifest, write_manifest
from dataflow.dedupe.run_format import PAGE
from tests.support.flow_process import (
    LIMIT_S,
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


def manifests(directory: Path) -> dict[Path, Manifest]:
    """Return the manifest of each lane that has one, by its directory."""
    return {
        path.parent: msgspec.json.decode(path.read_bytes().partition(b"\n")[2], type=Manifest)
        for path in ids(directory).rglob(FILE_NAME)
    }


def log_read(flow: Flow) -> dict[str, Any]:
    """Return the line about how much of the log a start has read, and to where."""
    (line,) = (line for line in flow.entries if line["event"] == "lane log read")
    return line


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
        flow.wait_or_end(lambda decided=decided: flow.decided() > decided, LIMIT_S, "an epoch on")
    return sent


def all_lanes_have_files(flow: Flow, directory: Path) -> bool:
    return len({path.parent for path in runs(directory)}) == int(flow.environ["LANES"])


def send_until_in_files(kafka: Cluster, topics: Topics, flow: Flow, directory: Path) -> int:
    """Send new payments in some epochs, until all lanes have a file; return how many were sent.

    Another thread writes it, and begins with what it has at the end of an epoch.
    """
    return send_until(kafka, topics, flow, lambda: all_lanes_have_files(flow, directory))


def send_until(kafka: Cluster, topics: Topics, flow: Flow, done: Callable[[], bool]) -> int:
    """Send new payments in some epochs, until something is done; return how many were sent."""

    def until_then() -> Iterator[bytes]:
        deadline = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < deadline, flow.log[-4000:]
            yield from (request(f"more-{uuid.uuid4().hex[:8]}") for _ in range(40))

    return send_in_epochs(kafka, topics, flow, until_then())


def filled(kafka: Cluster, topics: Topics, directory: Path, **environ: str) -> int:
    """Have `COUNT` ids, most of them in files; return how many records were sent for that."""
    with Flow(kafka, topics, directory, environ=SMALL_MEMORY | environ) as flow:
        flow.wait_until_ready()
        sent = send_in_epochs(kafka, topics, flow, (request(f"pay-{n}") for n in range(COUNT)))
        return stop_with_all_in_files(kafka, topics, flow, directory, sent)


def stop_with_all_in_files(
    kafka: Cluster, topics: Topics, flow: Flow, directory: Path, sent: int
) -> int:
    """Stop once all that was sent is decided, and all lanes have files; return how many were."""
    flow.wait_until_decided(sent)
    sent += send_until_in_files(kafka, topics, flow, directory)
    flow.wait_until_decided(sent)
    assert flow.terminate() == 0
    return sent


def again() -> Iterator[bytes]:
    """Yield every request again, on another partition than before."""
    yield b""
    yield from (request(f"pay-{n}") for n in range(COUNT))


def assert_all_are_known(
    kafka: Cluster,
    topics: Topics,
    directory: Path,
    sent: int,
    environ: dict[str, str] | None = None,
) -> Flow:
    sent += send(kafka, topics, again())
    flow = run_until_decided(kafka, topics, directory, sent, environ or SMALL_MEMORY)
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == COUNT
    return flow


def test_a_start_reads_only_what_the_files_do_not_have(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    sent = filled(kafka, topics, tmp_path)
    with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
        flow.wait_until_ready()
        ends = {int(partition): end for partition, end in log_read(flow)["ends"].items()}
        # What was restored is in files as well, once this start has made them.
        flow.wait(
            lambda: all(each.position == ends for each in manifests(tmp_path).values()),
            LIMIT_S,
            "in files",
        )
        assert flow.terminate() == 0
    next_one = assert_all_are_known(kafka, topics, tmp_path, sent)
    assert log_read(next_one)["entries"] == 0
    shutil.rmtree(ids(tmp_path))
    sent += COUNT + 1 + send(kafka, topics, iter([request("pay-0")]))
    without = run_until_decided(kafka, topics, tmp_path, sent, SMALL_MEMORY)
    assert log_read(without)["entries"] >= COUNT
    assert types(kafka, topics)["payment.duplicate"] == COUNT + 1


@pytest.mark.parametrize(
    "points",
    [
        ["file-listed:2"],
        ["file-written:3", "claims-flushed:3"],
        ["flushed:3", "after-commit:2", "all-committed:4"],
    ],
    ids=", ".join,
)
def test_killed_while_files_are_written(
    kafka: Cluster, topics: Topics, tmp_path: Path, points: Sequence[str]
) -> None:
    """The files are those of what is committed: see also `test_outages.py`, of zombies.

    Each run begins with the files that the kill before it has left.
    """
    sent = 0
    for seed, point in enumerate(points):
        with Flow(kafka, topics, tmp_path, environ={"CRASH_AT": point, **SMALL_MEMORY}) as flow:
            values = mixed_requests(100 * COUNT, seed)
            sent += send_in_epochs(kafka, topics, flow, values)
            assert flow.wait_for_exit() == -9
    for seed in range(len(points)):
        sent += send(kafka, topics, mixed_requests(COUNT, seed))
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


@pytest.mark.parametrize(
    ("which", "damages"),
    [
        ("*.run", [changed]),
        ("*.run", [deleted, cut, emptied]),
        ("manifest", [deleted, cut, emptied, changed]),
        ("*", [deleted, cut, emptied, changed]),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(x.__name__ for x in value),
)
def test_damaged_files_cost_time_only(
    kafka: Cluster,
    topics: Topics,
    tmp_path: Path,
    which: str,
    damages: Sequence[Callable[[Path], None]],
) -> None:
    """Each start makes the files that are damaged next."""
    sent = filled(kafka, topics, tmp_path)
    for damage in damages:
        damaged = [path for path in ids(tmp_path).rglob(which) if path.is_file()]
        assert {path.name == FILE_NAME for path in damaged} == {
            "*.run": {False},
            "manifest": {True},
            "*": {False, True},
        }[which]
        for path in damaged:
            damage(path)
        sent += send(kafka, topics, again())
        with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
            sent = stop_with_all_in_files(kafka, topics, flow, tmp_path, sent)
        assert any("file of remembered ids not used" in each["event"] for each in flow.entries) == (
            damage is not deleted or which == "*.run"
        ), damage
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == len(damages) * COUNT


def test_files_of_another_flow_are_thrown_away(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    """Their ids would make payments duplicates that were never charged here."""
    theirs = Topics.fresh(kafka)
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    filled(kafka, theirs, tmp_path / "theirs")  # the same ids
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
    sent = filled(kafka, topics, tmp_path)
    for lane, found in manifests(tmp_path).items():
        position = dict.fromkeys(found.position, 10**9)
        lines = [msgspec.structs.replace(run, since=position) for run in found.runs[:-1]]
        write_manifest(lane, msgspec.structs.replace(found, position=position, runs=lines))
    flow = assert_all_are_known(kafka, topics, tmp_path, sent)
    assert "they reach beyond the end of the lane log" in flow.log


def test_an_old_copy_of_the_files_is_as_good_as_any(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    sent = filled(kafka, topics, tmp_path)
    old = Path(shutil.copytree(ids(tmp_path), tmp_path / "old"))
    sent += send(kafka, topics, (request(f"later-{n}") for n in range(COUNT)))
    run_until_decided(kafka, topics, tmp_path, sent, SMALL_MEMORY)
    shutil.rmtree(ids(tmp_path))
    shutil.copytree(old, ids(tmp_path))
    for prefix in ("pay", "later"):
        sent += send(kafka, topics, iter([b"", *(request(f"{prefix}-{n}") for n in range(COUNT))]))
    run_until_decided(kafka, topics, tmp_path, sent, SMALL_MEMORY)
    assert check(kafka, topics).problems == []
    assert types(kafka, topics)["payment.duplicate"] == 2 * COUNT


def test_a_damaged_block_ends_the_process_and_the_next_one_goes_on(
    kafka: Cluster, topics: Topics, tmp_path: Path
) -> None:
    sent = filled(kafka, topics, tmp_path)
    paths = runs(tmp_path)[:2]  # each of them may end a process
    for path in paths:
        data = bytearray(path.read_bytes())
        data[2 * PAGE + 8] ^= 1  # of the first block, after header and filter
        path.write_bytes(data)
    sent += send(kafka, topics, again())
    ended = 0
    while True:
        with Flow(kafka, topics, tmp_path, environ=SMALL_MEMORY) as flow:
            if flow.wait_or_end(lambda flow=flow: flow.decided() == sent, LIMIT_S, "done"):
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
        sent = send_in_epochs(kafka, topics, flow, (request(f"pay-{n}") for n in range(COUNT)))
        flow.wait_until_decided(sent)
        # It finds that the other thread has failed when the next epoch comes.
        sent += send_until(
            kafka,
            topics,
            flow,
            lambda: "payments_remembered_files_failing 1.0" in flow.metrics(),
        )
        assert flow.health()["recovery"]["id_files_failing"]
        flow.wait_until_decided(sent)
        assert flow.terminate() == 0
    assert "files of remembered ids could not be written" in flow.log
    assert_all_are_known(kafka, topics, tmp_path, sent)


@pytest.mark.parametrize(("before", "after"), [("4", "2"), ("2", "6")])
def test_another_number_of_lanes_needs_other_files(
    kafka: Cluster, topics: Topics, tmp_path: Path, before: str, after: str
) -> None:
    sent = filled(kafka, topics, tmp_path, LANES=before)
    assert_all_are_known(kafka, topics, tmp_path, sent, {**SMALL_MEMORY, "LANES": after})
    assert len(list(ids(tmp_path).iterdir())) <= int(after)
