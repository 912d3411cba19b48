"""The rows in Bytewax's recovery store that a crash leaves of an epoch that was never durable.

The engine writes a row of each input partition before the lanes have committed that epoch. It reads
none of a source later, but may read one of a step: see `tests/test_engine.py`. So a snapshot of the
source is one that the lanes have committed, and the lanes' own rows must not matter at all.
"""

import pickle
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec
import pytest

from dataflow.core.state import SourceState, pack, unpack
from tests.support.flow_process import Flow, Topics, mixed_requests, run_until_decided, send
from tests.support.hooks.tuning import COMMITS_AT_ONCE, tuned
from tests.support.invariants import check
from tests.support.kafka import Cluster

PARTITIONS = 3
COUNT = 600
END = COUNT // PARTITIONS
"""The end of each input partition."""
SOURCE = "payments.source"
OF_THE_LANES = {"payments.dedupe", "payments.sink"}
PHANTOM = pickle.dumps(b"what no lane has ever written")


@contextmanager
def opened(directory: Path) -> Iterator[sqlite3.Connection]:
    """Yield the store of a flow that does not run; what is changed is kept."""
    path = directory / "recovery" / "part-0.sqlite3"
    with closing(sqlite3.connect(path)) as store, store:
        yield store


def resume_epoch(store: sqlite3.Connection) -> int:
    """Return the epoch that the next run begins in: everything before it is durable."""
    [(epoch,)] = store.execute("SELECT MAX(worker_frontier) FROM fronts")
    return int(epoch)


def offsets_in(store: sqlite3.Connection, epoch: int, *, durable: bool) -> dict[str, int]:
    """Return how far each partition has come in its last row before an epoch, or from it on."""
    rows = store.execute(
        "SELECT state_key, ser_change FROM snaps WHERE step_id = ?"
        " AND (snap_epoch < ?) = ? ORDER BY snap_epoch",
        [SOURCE, epoch, durable],
    )
    return {partition: state_in(pickled).next_offset for partition, pickled in rows}


def state_in(pickled: bytes) -> SourceState:
    return unpack(pickle.loads(pickled), SourceState)  # noqa: S301  (made by us)


def plant(store: sqlite3.Connection, epoch: int) -> None:
    """Put rows of the source into the store as of that epoch, by which everything is read."""
    rows = store.execute(
        "SELECT state_key, ser_change, MAX(snap_epoch) FROM snaps WHERE step_id = ? GROUP BY 1",
        [SOURCE],
    ).fetchall()
    assert len(rows) == PARTITIONS
    for partition, pickled, _ in rows:
        ahead = msgspec.structs.replace(state_in(pickled), next_offset=END, position=END)
        store.execute(
            "INSERT OR REPLACE INTO snaps (step_id, state_key, snap_epoch, ser_change)"
            " VALUES (?, ?, ?, ?)",
            [SOURCE, partition, epoch, pickle.dumps(pack(ahead))],
        )


def spoil_lanes(store: sqlite3.Connection) -> None:
    """Put something into all rows of the lanes' steps, which the next run reads."""
    steps = store.execute("SELECT DISTINCT step_id FROM snaps WHERE step_id != ?", [SOURCE])
    assert {step for (step,) in steps} == OF_THE_LANES
    store.execute("UPDATE snaps SET ser_change = ? WHERE step_id != ?", [PHANTOM, SOURCE])


def crash(kafka: Cluster, topics: Topics, directory: Path, at: str) -> None:
    environ = {"CRASH_AT": at, **tuned({COMMITS_AT_ONCE: 1})}
    with Flow(kafka, topics, directory, environ=environ) as flow:
        assert flow.wait_for_exit() == -9


@pytest.fixture
def crashed(kafka: Cluster, tmp_path: Path) -> Topics:
    """Return the topics of a flow that was killed before any lane has committed its last epoch."""
    topics = Topics.fresh(kafka, PARTITIONS)
    send(kafka, topics, mixed_requests(COUNT // 2, seed=1), PARTITIONS)
    run_until_decided(kafka, topics, tmp_path, COUNT // 2)
    send(kafka, topics, mixed_requests(COUNT // 2, seed=2), PARTITIONS)
    crash(kafka, topics, tmp_path, "flushed:1")
    return topics


def test_rows_of_an_epoch_that_was_never_durable_change_nothing(
    crashed: Topics, kafka: Cluster, tmp_path: Path
) -> None:
    """Wherever the runs after it end: before that epoch, in it, and after it."""
    with opened(tmp_path) as store:
        epoch = resume_epoch(store)
        assert len(offsets_in(store, epoch, durable=False)) == PARTITIONS, (
            "the crash has left such rows"
        )
        assert set(offsets_in(store, epoch, durable=True).values()) != {END}, "not all was decided"
        plant(store, epoch)
        spoil_lanes(store)
    crash(kafka, crashed, tmp_path, "building")
    with opened(tmp_path) as store:
        assert resume_epoch(store) == epoch
        assert set(offsets_in(store, epoch, durable=False).values()) == {END}, (
            "the rows are still there"
        )
    crash(kafka, crashed, tmp_path, "asking")
    with opened(tmp_path) as store:
        after = resume_epoch(store)
        assert after > epoch, "a later run reads the last rows before this one"
        assert set(offsets_in(store, after, durable=True).values()) != {END}, "written again"
    crash(kafka, crashed, tmp_path, "restored")
    run_until_decided(kafka, crashed, tmp_path, COUNT)
    assert check(kafka, crashed).problems == []


def test_the_same_rows_of_an_epoch_that_was_durable_are_refused(
    crashed: Topics, kafka: Cluster, tmp_path: Path
) -> None:
    """The lanes have committed all that was durable: so it is their offsets that are lost."""
    with opened(tmp_path) as store:
        plant(store, resume_epoch(store) - 1)
    with Flow(kafka, crashed, tmp_path) as flow:
        refusal = flow.refusal()
    assert f"the snapshot stands at {END}, but the lanes have only committed" in refusal
