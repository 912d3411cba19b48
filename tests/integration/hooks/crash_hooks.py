"""The named points at which a test kills the flow, and the guarantees that a test takes away."""

import importlib
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from dataflow.connectors import config, sink, source
from dataflow.connectors.names import lane_group
from dataflow.steps import decode, dedupe, process, remember

ARMED = os.environ.get("CRASH_ARMED")
"""Passes only count once this file exists, if it is given."""

POINTS: dict[str, tuple[type, str, str]] = {
    # after the gateway has decided, before anything is written
    "decided": (process.Process, "__call__", "after"),
    # with records of an open transaction on their way
    "mid-batch": (sink.Lane, "write_batch", "after"),
    # in the middle of a step
    "deciding": (process.Process, "_decide", "before"),
    # everything written, the transaction not committed
    "before-commit": (sink.Lane, "_commit", "before"),
    # every record taken by Kafka, the transaction still open
    "flushed": (sink.Lane, "_end_transaction", "before"),
    # this lane committed, others perhaps not, the snapshots not stored
    "after-commit": (sink.Lane, "_commit", "after"),
    # while what is remembered is handed out
    "open": (remember.Remember, "_restore", "after"),
    # when the records of the replay are on their way
    "recall": (source.RequestPartition, "_recall", "after"),
}


def install(crash_at: str, broken: str, tune: str = "") -> None:
    """Patch the flow's classes; the text after the colon says at which pass to crash."""
    if tune:
        where, _, value = tune.partition("=")
        module, _, name = where.partition(":")
        setattr(importlib.import_module(module), name, float(value))
    if broken:
        BREAKAGES[broken]()
    if crash_at:
        point, _, passes = crash_at.partition(":")
        owner, name, when = POINTS[point]
        _crash(owner, name, when, int(passes or 1))


def _crash(owner: type, name: str, when: str, passes: int) -> None:
    original = getattr(owner, name)
    left = [passes]
    lock = threading.Lock()

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            result = original(*args, **kwargs)
        with lock:
            left[0] -= ARMED is None or Path(ARMED).exists()
            if left[0] == 0:
                _end()
        if when == "before":
            result = original(*args, **kwargs)
        return result

    setattr(owner, name, crashing)


def _end() -> None:
    how = os.environ.get("CRASH_BY", "SIGKILL")
    if how == "exception":
        raise RuntimeError("broken on purpose")
    os.kill(os.getpid(), signal.Signals[how])


def _offsets_outside_the_transaction() -> None:
    """The lane's offsets are committed before its records, as an ordinary consumer would."""
    build, commit = sink.Lane.__init__, sink.Lane._commit

    def remembering(self: Any, kafka: Any, lane: int, lanes: int, **rest: Any) -> None:
        group = lane_group(kafka, lane)
        self.ordinary = Consumer(config.client(kafka, "broken") | {"group.id": group})
        build(self, kafka, lane, lanes, **rest)

    def too_early(self: Any, deadline_s: float) -> None:
        offsets = [TopicPartition(self._topic, p, o) for p, o in self._positions.items()]
        self.ordinary.commit(offsets=offsets, asynchronous=False)
        self._positions = {}
        commit(self, deadline_s)

    sink.Lane.__init__ = remembering  # type: ignore[method-assign]
    sink.Lane._commit = too_early  # type: ignore[method-assign]


def _no_restore() -> None:
    """What is remembered is not handed out after a restart."""
    remember.Remember._restore = lambda *_: []  # type: ignore[method-assign]


def _no_replay() -> None:
    """Records that a lane has committed are taken for new ones, and not replayed first."""
    dedupe_judge = dedupe.Dedupe._judge

    def judge(self: Any, batch: Any) -> Any:
        batch.committed = 0
        return dedupe_judge(self, batch)

    dedupe.Dedupe._judge = judge  # type: ignore[method-assign]


def _lanes_by_partition() -> None:
    """A record's lane is that of its input partition, not of its paymentId."""
    split = decode.Decode._split

    def by_partition(self: Any, batch: Any) -> Any:
        lane = batch.partition % self._lanes
        vars(decode)["lanes_of"] = lambda keys, _lanes: np.full(len(keys), lane)
        return split(self, batch)

    decode.Decode._split = by_partition  # type: ignore[method-assign]


def _no_plain_offsets() -> None:
    """The plain group is never told a position; no guarantee may depend on it."""

    def only_report(self: Any) -> None:
        offset, self._durable = self._durable, None
        if offset is not None:
            self._status.committed_at(self._partition, offset)

    source.RequestPartition._commit_plain = only_report  # type: ignore[method-assign]


BREAKAGES: dict[str, Callable[[], None]] = {
    "no-plain-offsets": _no_plain_offsets,
    "no-restore": _no_restore,
    "no-replay": _no_replay,
    "lanes-by-partition": _lanes_by_partition,
    "offsets-outside-the-transaction": _offsets_outside_the_transaction,
}
