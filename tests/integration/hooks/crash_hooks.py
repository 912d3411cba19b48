"""The named points at which a test kills the flow, and the guarantees that a test takes away."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import TopicPartition

from dataflow.connectors import offsets, sink, source
from dataflow.core import segments
from dataflow.steps import dedupe, process, remember

POINTS: dict[str, tuple[type, str, str]] = {
    # after the gateway has decided, before anything is written
    "decided": (process.Process, "__call__", "after"),
    # with records of an open transaction on their way
    "mid-batch": (sink.Lane, "write_batch", "after"),
    # everything written, the transaction not committed
    "before-commit": (sink.Lane, "_commit", "before"),
    # this lane committed, others perhaps not, the snapshots not stored
    "after-commit": (sink.Lane, "_commit", "after"),
    # while what is remembered is handed out
    "open": (remember.Remember, "_restore", "after"),
    # when the records of the replay are on their way
    "replay": (source.RequestPartition, "_replay", "after"),
}


def install(crash_at: str, broken: str) -> None:
    """Patch the flow's classes; the text after the colon says at which pass to crash."""
    if crash_at:
        point, _, passes = crash_at.partition(":")
        owner, name, when = POINTS[point]
        _crash(owner, name, when, int(passes or 1))
    if broken:
        BREAKAGES[broken]()


def _crash(owner: type, name: str, when: str, passes: int) -> None:
    original = getattr(owner, name)
    left = [passes]
    lock = threading.Lock()

    def crashing(*args: Any, **kwargs: Any) -> Any:
        if when == "after":
            result = original(*args, **kwargs)
        with lock:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        if when == "before":
            result = original(*args, **kwargs)
        return result

    setattr(owner, name, crashing)


def _offsets_outside_the_transaction() -> None:
    """The lane's offsets are committed before its records, as an ordinary consumer would."""
    original = sink.Lane._commit

    def commit(self: Any, deadline_s: float) -> None:
        from confluent_kafka import Consumer  # noqa: PLC0415

        from dataflow.connectors import config  # noqa: PLC0415

        consumer = Consumer(
            config.client(self.kafka, "broken") | {"group.id": sink.lane_group_of(self)}
        )
        consumer.commit(
            offsets=[TopicPartition(self._topic, p, o) for p, o in self._positions.items()],
            asynchronous=False,
        )
        consumer.close()
        original(self, deadline_s)

    sink.Lane._commit = commit  # type: ignore[method-assign]


def _no_restore() -> None:
    """What is remembered is not handed out after a restart."""
    remember.Remember._restore = lambda self, item: []  # type: ignore[method-assign]


def _no_replay() -> None:
    """Records that a lane has committed are taken for new ones, and not replayed first."""
    dedupe_judge = dedupe.Dedupe._judge

    def judge(self: Any, batch: Any) -> Any:
        batch.committed = 0
        return dedupe_judge(self, batch)

    dedupe.Dedupe._judge = judge  # type: ignore[method-assign]


def _lanes_by_partition() -> None:
    """A record's lane is that of its input partition, not of its paymentId."""
    from dataflow.steps import decode  # noqa: PLC0415

    split = decode.Decode._split

    def by_partition(self: Any, batch: Any) -> Any:
        original = decode.lanes_of
        decode.lanes_of = lambda keys, lanes: original(keys, lanes) * 0 + batch.partition % lanes
        try:
            return split(self, batch)
        finally:
            decode.lanes_of = original

    decode.Decode._split = by_partition  # type: ignore[method-assign]


BREAKAGES: dict[str, Callable[[], None]] = {
    "no-restore": _no_restore,
    "no-replay": _no_replay,
    "lanes-by-partition": _lanes_by_partition,
    "offsets-outside-the-transaction": _offsets_outside_the_transaction,
}
_ = (offsets, segments)
