"""The named points of the flow at which a test can end it, and what counts as a pass."""

import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from dataflow.core.items import OutcomeBatch, RecordBatch
from dataflow.dedupe import lane_files
from dataflow.kafka import commit_pool, group_offset, lane_log, lane_transaction, source
from dataflow.service.shutdown import Lifecycle
from dataflow.steps import process
from tests.support.hooks.references import Reference

Counts = Callable[[tuple[Any, ...], Any], bool]
"""A test of whether a call is a pass, by its arguments and, after it, its result."""


class Point(NamedTuple):
    """A place in the code: beside or in a call of a method."""

    call: Reference
    when: Literal["before", "during", "after"]
    counts: Counts = lambda _args, _result: True


def _some_decided(_args: tuple[Any, ...], result: Any) -> bool:
    return any(isinstance(item, OutcomeBatch) for _, item in result)


def _in_transaction(args: tuple[Any, ...], _result: Any) -> bool:
    """Return whether it has records in it: not one that only commits a position again."""
    lane: lane_transaction.Lane = args[0]
    return bool(lane._open and lane._counts.produced)


def _in_claims(args: tuple[Any, ...], _result: Any) -> bool:
    """Return whether it has claims in it, and no outcome yet: they go an epoch ahead."""
    lane: lane_transaction.Lane = args[0]
    return bool(lane._open and any(lane._entries) and not lane._counts.produced)


def _has_committed_claims(args: tuple[Any, ...], _result: Any) -> bool:
    return len(args[1]) > 0


def _parks(args: tuple[Any, ...], _result: Any) -> bool:
    return bool(args[0]._counts.parked)


def _resolves(args: tuple[Any, ...], _result: Any) -> bool:
    return bool(args[0]._counts.resolved)


def _is_commit(args: tuple[Any, ...], result: Any) -> bool:
    return bool(args[1] == "commit" and _in_transaction(args, result))


def _all_of_the_worker(args: tuple[Any, ...], result: Any) -> bool:
    pool: commit_pool.CommitPool = args[0]
    return not pool._running[threading.get_ident()] and _in_transaction(args[1:], result)


def _records_again(_args: tuple[Any, ...], result: Any) -> bool:
    batch: RecordBatch = result
    return bool(batch.committed)


def _epoch_is_durable(args: tuple[Any, ...], _result: Any) -> bool:
    offset: group_offset.GroupOffset = args[0]
    return offset._durable is not None


POINTS: dict[str, Point] = {
    # a partition is about to look where it starts
    "building": Point(lambda: source.KafkaSource.build_part, "before"),
    # a lane of the run is open, others perhaps not: the previous run is fenced in part
    "opening": Point(lambda: lane_transaction.Lane.__init__, "after"),
    # claims are committed, their payments not charged
    "claimed-not-charged": Point(lambda: process.Process._charge, "before", _has_committed_claims),
    # payments are charged, their outcomes not committed
    "charged-not-committed": Point(lambda: process.Process._charge, "after", _has_committed_claims),
    # payments are parked, in a transaction that is still open
    "parked-not-committed": Point(lambda: lane_transaction.Lane._commit, "before", _parks),
    # the answer for a parked payment is there, nothing of it is written
    "answered-not-committed": Point(lambda: process.Process._resolve, "after"),
    # its outcome and its tombstone are written, in a transaction that is still open
    "tombstone-not-committed": Point(
        lambda: lane_transaction.Lane._end_transaction, "before", _resolves
    ),
    # after the gateway has decided, before anything is written
    "decided": Point(lambda: process.Process.__call__, "after", _some_decided),
    # in the middle of a step
    "deciding": Point(lambda: process.Process._decide, "before"),
    # with records of an open transaction on their way
    "mid-batch": Point(lambda: lane_transaction.Lane.write_batch, "after", _in_transaction),
    # everything written, nothing waited for
    "before-commit": Point(lambda: lane_transaction.Lane._commit, "before", _in_transaction),
    # every record taken by Kafka, the transaction still open
    "flushed": Point(lambda: lane_transaction.Lane._end_transaction, "before", _in_transaction),
    # the same of claims, which go ahead of their outcomes in a transaction without them
    "claims-flushed": Point(lambda: lane_transaction.Lane._end_transaction, "before", _in_claims),
    # and once a lane has committed them, others perhaps not
    "claims-committed": Point(lambda: lane_transaction.Lane._commit, "after", _in_claims),
    # the offsets are in the transaction, its end is not asked for
    "offsets-sent": Point(lambda: lane_transaction.Lane._retry, "before", _is_commit),
    # while Kafka ends the transaction
    "committing": Point(lambda: lane_transaction.Lane._retry, "during", _is_commit),
    # this lane committed, others perhaps not, the snapshots not stored
    "after-commit": Point(lambda: lane_transaction.Lane._commit, "after", _in_transaction),
    # all lanes of a worker committed, the snapshots not stored
    "all-committed": Point(lambda: commit_pool.CommitPool.wait_for, "after", _all_of_the_worker),
    # the snapshots stored, the group's offset not committed
    "durable": Point(lambda: group_offset.GroupOffset.commit, "before", _epoch_is_durable),
    # the lane's log is written, the outcomes perhaps not all
    "logged": Point(lambda: lane_transaction.Lane._write_log, "after", _in_transaction),
    # the lanes are about to be asked how far they have committed
    "asking": Point(lambda: source.RequestPartition._restore, "before"),
    # while the log is read back
    "restoring": Point(lambda: lane_log.LaneLog._read_from_files_on, "before"),
    # a lane has its history, others perhaps not
    "restored": Point(lambda: lane_log.LaneLog.restore, "after"),
    # a file of remembered ids is durable, and not in the manifest
    "file-written": Point(lambda: lane_files.LaneFiles._replace, "before"),
    # it is in the manifest, and what it replaces still there
    "file-listed": Point(lambda: lane_files.LaneFiles._list, "after"),
    # when records that lanes have committed are on their way again
    "replay": Point(lambda: source.RequestPartition._batch, "after", _records_again),
    # asked to stop, the last epoch not closed
    "draining": Point(lambda: Lifecycle.announce, "after"),
}
