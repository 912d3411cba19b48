"""The reading of one partition, with a client that gives what a test wants.

How the real one behaves is shown elsewhere: `integration/test_stopped_fetching.py`,
`integration/test_outages.py`.
"""

from collections.abc import Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from dataflow.config.settings import Settings
from dataflow.core.unwrapped import Unwrapped
from dataflow.errors import ConsumeError
from dataflow.kafka.group_offset import GroupOffset
from dataflow.kafka.lane_names import Metadata
from dataflow.kafka.partition_reader import PartitionReader, Records
from dataflow.kafka.resume_point import ResumePoint
from dataflow.process_context import Cluster, ProcessContext
from dataflow.runtime import Runtime
from schemas.outcomes import ErrorCode
from schemas.requests import Rejected
from tests.support.required import REQUIRED

PARTITION = 3
START = 100


def record(offset: int, time_ms: int = 5, error: int | None = None, headers: Any = None) -> Message:
    """Return a message, with a value or with an error."""
    return Message(
        offset=offset,
        value=b"%d" % offset,
        timestamp=(1, time_ms),
        headers=headers,
        error=None if error is None else KafkaError(error),
    )


class Client:
    """A consumer that gives the batches of a list."""

    def __init__(self, *batches: list[Message]) -> None:
        self.batches = list(batches)
        self.at = -1001  # as the real one before it has read anything
        self.high = 1000
        self.fails = False
        self.commits: list[tuple[int, str, bool]] = []

    def consume(self, _at_most: int, _timeout_s: float) -> list[Message]:
        return self.batches.pop(0) if self.batches else []

    def position(self, wanted: list[TopicPartition]) -> list[TopicPartition]:
        return [TopicPartition(each.topic, each.partition, self.at) for each in wanted]

    def get_watermark_offsets(self, _where: TopicPartition, *, cached: bool) -> tuple[int, int]:
        assert cached, "this is called for each batch"
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._STATE))
        return 0, self.high

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool = True) -> None:
        if self.fails:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        (where,) = offsets
        assert where.partition == PARTITION
        self.commits.append((where.offset, where.metadata or "", asynchronous))


@pytest.fixture
def context() -> ProcessContext:
    made = Runtime(Settings.from_env(REQUIRED | {"LANES": "7"})).context
    return made.with_cluster(Cluster("c", list(range(4)), topic_id="T"))


def reader(context: ProcessContext, client: Client, durable: int | None = None) -> PartitionReader:
    start = ResumePoint(START, began_at=0, end_offset=0, looked_at_ms=0, durable=durable)
    return PartitionReader(context, PARTITION, client, start)  # type: ignore[arg-type]


def shown(context: ProcessContext) -> dict[str, Any]:
    """Return what `/health` has of the partition."""
    body: dict[str, Any] = context.status.health()[1]["partitions"][str(PARTITION)]
    return body


def test_records_are_aligned_and_the_position_is_past_them(context: ProcessContext) -> None:
    reading = reader(context, Client([record(103, 7), record(107, -1)]), durable=90)
    assert (reading.next_offset, reading.records_end) == (START, 90)
    records = reading.read(10)
    assert records is not None
    assert records.offsets.tolist() == [103, 107]
    assert records.values == [b"103", b"107"]
    assert records.times_ms[0] == 7
    assert records.times_ms[1] > 1_700_000_000_000, "a record without a timestamp is from now"
    assert (reading.next_offset, reading.records_end) == (108, 108)


def test_headers_are_read_with_the_records_and_those_left_out_are_counted(
    context: ProcessContext,
) -> None:
    headers = [("traceparent", b"t"), ("baggage", bytes(9000)), ("other", b"o")]
    reading = reader(context, Client([record(103), record(107, headers=headers)]))
    records = reading.read(10)
    assert records is not None
    assert records.headers == {107: [("traceparent", b"t")]}
    registry = context.metrics.registry
    assert registry.get_sample_value("kafka_headers_left_out_total") == 1


def test_nothing_moves_no_position(context: ProcessContext) -> None:
    reading = reader(context, Client())
    assert reading.read(10) is None
    assert reading.next_offset == START


def test_an_error_that_passes_costs_no_record(context: ProcessContext) -> None:
    passing = record(0, error=KafkaError.NOT_LEADER_FOR_PARTITION)
    reading = reader(context, Client([record(100), passing, record(101)], [passing], [record(102)]))
    records = reading.read(10)
    assert records is not None
    assert records.values == [b"100", b"101"]
    assert reading.read(10) is None
    records = reading.read(10)
    assert records is not None
    assert records.values == [b"102"]


def test_the_records_before_an_error_are_read_first(context: ProcessContext) -> None:
    """They are decided and committed; it is not lost, though the client reports it once."""
    failed = record(0, error=KafkaError._BAD_MSG)
    reading = reader(context, Client([record(100), failed]))
    records = reading.read(10)
    assert records is not None
    assert records.values == [b"100"]
    for _ in range(2):
        with pytest.raises(ConsumeError, match=r"payments.payment-requested\[3\] at 101: "):
            reading.read(10)


def test_an_error_alone_is_raised_at_once(context: ProcessContext) -> None:
    reading = reader(context, Client([record(0, error=KafkaError.OFFSET_OUT_OF_RANGE)]))
    with pytest.raises(ConsumeError, match="at 100: the offset has expired or never existed"):
        reading.read(10)


def test_an_epoch_may_commit_the_markers_behind_the_last_record_if_all_is_read(
    context: ProcessContext,
) -> None:
    client = Client([record(100)])
    reading = reader(context, client)
    reading.read(10)
    client.at, client.high = 105, 105
    assert reading.committable_offset(with_markers=False) == 101, "the epoch has records"
    assert reading.committable_offset(with_markers=True) == 105
    client.high = 106
    assert reading.committable_offset(with_markers=True) == 101, "there is something left to read"
    client.high = -1001
    assert reading.committable_offset(with_markers=True) == 101, "the end is not known"


def test_an_end_that_cannot_be_looked_up_holds_up_no_epoch(context: ProcessContext) -> None:
    client = Client()
    client.fails = True
    assert reader(context, client).committable_offset(with_markers=True) == START


def test_probes_see_where_the_partition_stands(context: ProcessContext) -> None:
    reading = reader(context, Client())
    assert reading.report_position() == 1000
    assert shown(context)["position"] == START
    assert shown(context)["lag"] == 1000 - START


class TestGroupOffset:
    @pytest.fixture
    def client(self) -> Client:
        return Client()

    @pytest.fixture
    def group(self, context: ProcessContext, client: Client) -> GroupOffset:
        return GroupOffset(context, PARTITION, client, 0)  # type: ignore[arg-type]

    def test_a_position_is_committed_once_its_epoch_is_durable(
        self, group: GroupOffset, client: Client, context: ProcessContext
    ) -> None:
        group.commit()
        assert client.commits == []
        group.epoch_closed(5, 4)
        group.commit()
        group.commit()
        assert client.commits == [(5, str(Metadata(7, "T", began=0, records=4)), True)]
        assert shown(context)["committed"] == 5

    def test_an_offset_is_not_committed_twice_unless_it_is_renewed(
        self, group: GroupOffset, client: Client
    ) -> None:
        """A quiet partition costs Kafka nothing, but it must not forget the offset either."""
        for position in (5, 5, 6, 6):
            group.epoch_closed(position, position)
            group.commit()
        assert [offset for offset, *_ in client.commits] == [5, 6]
        group.renew()
        group.epoch_closed(6, 6)
        group.commit()
        assert [offset for offset, *_ in client.commits] == [5, 6, 6]

    def test_a_commit_that_fails_is_made_up_for_by_the_next_epoch(
        self, group: GroupOffset, client: Client
    ) -> None:
        client.fails = True
        group.epoch_closed(5, 5)
        group.commit()
        client.fails = False
        group.epoch_closed(5, 5)
        group.commit()
        assert [offset for offset, *_ in client.commits] == [5]

    def test_the_last_commit_is_waited_for(self, group: GroupOffset, client: Client) -> None:
        group.epoch_closed(5, 5)
        group.commit_last()
        assert [asynchronous for *_, asynchronous in client.commits] == [False]


class Unwrap:
    """Gives what has a schema; `ready` is raised by a test."""

    def __init__(self, ready: int, refused: tuple[int, ...] = ()) -> None:
        self.ready = ready
        self.refused = {n: Rejected(code=ErrorCode.MALFORMED, message="") for n in refused}
        self.asked: list[list[bytes | None]] = []

    def __call__(self, values: Sequence[bytes | None]) -> Unwrapped:
        self.asked.append([*values])
        return Unwrapped([*values[: self.ready]], self.refused)


class TestRecordsThatWaitForASchema:
    def test_the_records_before_the_first_one_are_read(self, context: ProcessContext) -> None:
        unwrap = Unwrap(2, refused=(1,))
        reading = self.reading(context, unwrap, 100, 103, 104, 107)
        records = reading.read(10)
        assert records is not None
        assert records.offsets.tolist() == [100, 103]
        assert records.times_ms.tolist() == [100, 103]
        assert records.values == [b"100", b"103"]
        assert records.refused == unwrap.refused
        assert (reading.next_offset, reading.records_end) == (104, 104)

    def test_they_are_read_once_their_schema_is_there_and_none_is_lost(
        self, context: ProcessContext
    ) -> None:
        unwrap = Unwrap(1)
        reading = self.reading(context, unwrap, 100, 103, 104, 107)
        assert self.offsets(reading.read(10)) == [100]
        unwrap.ready = 0
        for _ in range(3):
            assert reading.read(10) is None
        unwrap.ready = 10
        # Fewer than wait, as the gateway may take fewer by now.
        assert self.offsets(reading.read(2)) == [103, 104]
        assert self.offsets(reading.read(2)) == [107]
        assert self.offsets(reading.read(2)) == [200]
        assert unwrap.asked[-3:] == [[b"103", b"104"], [b"107"], [b"200"]]

    def test_nothing_is_settled_beyond_the_first_one(self, context: ProcessContext) -> None:
        """The client stands behind all of them.

        Its position would lose them at a restart, and have ids forgotten whose copies they are.
        """
        client = Client([record(100), record(101)], [])
        client.at = client.high = 110
        unwrap = Unwrap(1)
        reading = reader(context._replace(unwrap=unwrap), client)
        assert self.offsets(reading.read(10)) == [100]
        assert reading.position() == 101
        assert reading.committable_offset(with_markers=True) == 101
        assert self.offsets(reading.read(10)) == [101]
        assert reading.committable_offset(with_markers=True) == 110

    def test_they_are_no_silence_of_the_client(
        self, context: ProcessContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reading = self.reading(context, Unwrap(0), 100)
        monkeypatch.setattr(
            context.status.partitions, "nothing_came", lambda *_: pytest.fail("asked")
        )
        for _ in range(3):
            assert reading.read(10) is None

    def reading(self, context: ProcessContext, unwrap: Unwrap, *offsets: int) -> PartitionReader:
        batches = [record(each, time_ms=each) for each in offsets], [record(200)]
        return reader(context._replace(unwrap=unwrap), Client(*batches))

    @staticmethod
    def offsets(records: Records | None) -> list[int]:
        assert records is not None
        found: list[int] = records.offsets.tolist()
        return found
