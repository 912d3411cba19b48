"""One input partition, as the engine drives it: what it emits in which epoch, and when it wakes."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from dataflow.config.settings import Settings
from dataflow.core.epochs import Epochs
from dataflow.core.items import RecordBatch, Signal, SourceItem
from dataflow.kafka.lane_offsets import Committed, LaneOffsets
from dataflow.kafka.resume_point import ResumePoint
from dataflow.kafka.source import RequestPartition
from dataflow.process_context import Cluster
from dataflow.runtime import Runtime
from tests.support.required import REQUIRED

ONE_BY_ONE = {"SIMULATED_LATENCY": "100ms"}
AT_ONCE = {"SIMULATED_LATENCY": "0ms"}


class FakeConsumer:
    """A topic to which records are sent by hand."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self._read = 0

    def consume(self, at_most: int, _timeout_s: float) -> list[Message]:
        some = self.sent[self._read : self._read + at_most]
        self._read += len(some)
        return some

    def position(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, self._read) for each in wanted]

    def get_watermark_offsets(self, *_: object, **_how: object) -> tuple[int, int]:
        return 0, len(self.sent)

    def commit(self, *_: object, **_how: object) -> None: ...

    def close(self) -> None: ...


class NothingCommitted:
    def of(self, *_: object) -> Committed:
        return Committed({}, 0)


class Driven:
    """A partition in its live phase."""

    def __init__(self, runtime: Runtime, *, shared: bool) -> None:
        context = runtime.context.with_cluster(Cluster("memory", [0]))
        self._consumer = FakeConsumer()
        self._partition = RequestPartition(
            context._replace(epochs=Epochs(0.1, shared)),
            0,
            cast("Consumer", self._consumer),
            start=ResumePoint(offset=0, began_at=0, end_offset=0, looked_at_ms=0),
            offsets=cast("LaneOffsets", NothingCommitted()),
            on_close=lambda: None,
        )
        self.charging = runtime.charging
        for _ in ("open", "restore", "live"):
            self.epoch()

    def send(self, count: int) -> None:
        first = len(self._consumer.sent)
        self._consumer.sent += [
            Message(topic="requested", partition=0, offset=first + n, value=b"{}", timestamp=(1, 1))
            for n in range(count)
        ]

    def epoch(self) -> tuple[list[SourceItem], bool]:
        """Return what is emitted in an epoch, and whether the next one is due at once."""
        emitted = self._partition.next_batch()
        awake_at = self._partition.next_awake()
        self._partition.snapshot()
        return emitted, awake_at is None


@contextmanager
def driven(environ: dict[str, str], *, shared: bool = False) -> Iterator[Driven]:
    runtime = Runtime(Settings.from_env({**REQUIRED, **environ}))
    with closing(runtime.charging):
        yield Driven(runtime, shared=shared)


def records(emitted: list[SourceItem]) -> int:
    return sum(len(each.values) for each in emitted if isinstance(each, RecordBatch))


def test_an_epoch_with_claims_is_followed_at_once_by_one_that_begins_the_charges() -> None:
    """It has the signals, and no records: those that have come wait for the next instant."""
    with driven(ONE_BY_ONE) as partition:
        partition.send(3)
        emitted, is_due = partition.epoch()
        assert (records(emitted), is_due) == (3, True)
        partition.send(2)
        partition.charging.wake([1])
        emitted, is_due = partition.epoch()
        assert [(each.signal, each.lanes) for each in emitted] == [(Signal.WAKE, (1,))]  # type: ignore[union-attr]
        assert not is_due
        emitted, is_due = partition.epoch()
        assert (records(emitted), is_due) == (2, True)


def test_an_epoch_without_records_is_followed_by_one_at_its_instant() -> None:
    with driven(ONE_BY_ONE) as partition:
        partition.charging.wake([1])
        assert partition.epoch()[1] is False


@pytest.mark.parametrize(("environ", "shared"), [(AT_ONCE, False), (ONE_BY_ONE, True)])
def test_an_epoch_is_not_closed_early_where_that_would_gain_nothing(
    environ: dict[str, str],
    shared: bool,  # noqa: FBT001
) -> None:
    """With a gateway that answers at once it would cost a transaction more.

    With other workers, it would have to wait for theirs.
    """
    with driven(environ, shared=shared) as partition:
        partition.send(3)
        emitted, is_due = partition.epoch()
        assert (records(emitted), is_due) == (3, False)
