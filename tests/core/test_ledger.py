"""Which segments remember the ids: when one is full, and when one is forgotten."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.ledger import MAX_RECORDS, MIN_RECORDS, Ledger

WINDOW_MS = 7 * 24 * 3600 * 1000
HOUR_MS = 3600 * 1000
FUTURE_MS = 10**15


class Stream:
    """The only partition there is, whose records come in batches."""

    def __init__(self, ledger: Ledger | None = None, now_ms: int = 0) -> None:
        self.ledger = ledger or Ledger(0, WINDOW_MS)
        self.now_ms = now_ms
        self.offset = 0

    def batch(
        self, records: int, after_ms: int = 0, stamped_ms: tuple[int, int] | None = None
    ) -> str:
        """Let time pass, then read a batch; return the segment that remembers it.

        Its records have the time of the clock, or times from the first to the second number.
        """
        self.now_ms += after_ms
        oldest_ms, newest_ms = stamped_ms or (self.now_ms, self.now_ms)
        self.ledger.advance(oldest_ms, self.now_ms)
        first, self.offset = self.offset, self.offset + records
        segment = self.ledger.add(first, self.offset, records, min(newest_ms, self.now_ms))
        return self.ledger.name(segment)

    def expired(self) -> list[str]:
        return self.ledger.expire(self.ledger.stream_time_ms)

    def numbers(self) -> list[int]:
        return [segment.number for segment in self.ledger.segments]


@pytest.fixture
def stream() -> Stream:
    return Stream()


class TestRolling:
    def test_the_first_batch_opens_the_first_segment(self) -> None:
        assert Stream(Ledger(7, WINDOW_MS)).batch(1) == "00007/000000000"

    def test_batches_share_a_segment_until_it_is_full(self, stream: Stream) -> None:
        names = [stream.batch(MIN_RECORDS // 2) for _ in range(6)]
        assert [name[-1] for name in names] == ["0", "0", "1", "1", "2", "2"]

    def test_a_batch_is_never_split(self, stream: Stream) -> None:
        stream.batch(MIN_RECORDS - 1)
        stream.batch(MAX_RECORDS)
        (segment,) = stream.ledger.segments
        assert segment.records == MIN_RECORDS - 1 + MAX_RECORDS

    def test_the_more_is_remembered_the_larger_a_segment_may_be(self, stream: Stream) -> None:
        while sum(segment.records for segment in stream.ledger.segments) < 600_000:
            stream.batch(500)
        assert stream.ledger.segments[0].records == 1500
        assert 2000 <= stream.ledger.segments[-2].records <= 3000

    def test_but_not_larger_than_the_most(self, stream: Stream) -> None:
        stream.batch(256 * MAX_RECORDS * 2)
        stream.batch(MAX_RECORDS)
        stream.batch(1)
        assert stream.numbers() == [0, 1, 2]

    def test_a_segment_spans_a_sixteenth_of_the_window(self, stream: Stream) -> None:
        stream.batch(1)
        assert stream.batch(1, after_ms=WINDOW_MS // 16)[-1] == "0"
        assert stream.batch(1, after_ms=1)[-1] == "1"

    def test_also_if_nothing_came_for_long(self, stream: Stream) -> None:
        """Else what came before would be remembered as long as what comes after."""
        stream.batch(1)
        assert stream.batch(1, after_ms=6 * 24 * HOUR_MS)[-1] == "1"

    def test_a_segment_knows_its_offsets_and_records(self) -> None:
        ledger = Ledger(0, WINDOW_MS)
        ledger.add(10, 15, 3, newest_ms=5000)
        segment = ledger.add(15, 30, 7, newest_ms=6000)
        assert (segment,) == ledger.segments
        assert (segment.first_offset, segment.end_offset, segment.records) == (10, 30, 10)
        assert (segment.opened_ms, segment.newest_ms) == (5000, 6000)


class TestTime:
    def test_a_partition_has_come_as_far_as_all_of_its_records(self, stream: Stream) -> None:
        stream.batch(2, after_ms=10 * HOUR_MS, stamped_ms=(HOUR_MS, 9 * HOUR_MS))
        assert stream.ledger.stream_time_ms == HOUR_MS

    def test_a_segment_is_dated_by_its_newest_record(self, stream: Stream) -> None:
        stream.batch(2, after_ms=10 * HOUR_MS, stamped_ms=(HOUR_MS, 9 * HOUR_MS))
        stream.batch(2, stamped_ms=(2 * HOUR_MS, 3 * HOUR_MS))
        assert stream.ledger.segments[0].newest_ms == 9 * HOUR_MS

    def test_late_records_do_not_turn_time_back(self, stream: Stream) -> None:
        stream.batch(1, after_ms=HOUR_MS)
        stream.batch(1, stamped_ms=(5, 5))
        assert stream.ledger.stream_time_ms == HOUR_MS

    def test_late_records_are_remembered_from_now_on(self, stream: Stream) -> None:
        """Their segment would otherwise be forgotten at once."""
        stream.batch(1, after_ms=30 * 24 * HOUR_MS)
        stream.batch(MIN_RECORDS, stamped_ms=(5, 5))
        stream.batch(1, stamped_ms=(5, 5))
        assert stream.numbers() == [0, 1]
        assert stream.expired() == []

    def test_records_from_the_future_do_not_go_ahead_of_the_clock(self, stream: Stream) -> None:
        stream.batch(1, after_ms=HOUR_MS, stamped_ms=(FUTURE_MS, FUTURE_MS))
        assert stream.ledger.stream_time_ms == HOUR_MS


class TestExpiry:
    def test_a_segment_lives_for_the_window(self, stream: Stream) -> None:
        stream.batch(1)
        assert stream.ledger.expire(WINDOW_MS) == []
        assert stream.ledger.expire(WINDOW_MS + 1) == ["00000/000000000"]
        assert stream.ledger.expire(WINDOW_MS + 1) == []

    def test_it_is_counted_from_its_newest_record(self, stream: Stream) -> None:
        stream.batch(1)
        stream.batch(1, after_ms=1000)
        assert stream.ledger.expire(WINDOW_MS + 1000) == []

    def test_the_oldest_go_first_and_the_others_stay(self, stream: Stream) -> None:
        for _ in range(5):
            stream.batch(MIN_RECORDS, after_ms=HOUR_MS)
        expired = stream.ledger.expire(WINDOW_MS + 3 * HOUR_MS)
        assert expired == ["00000/000000000", "00000/000000001"]
        assert stream.numbers() == [2, 3, 4]

    def test_the_partition_that_is_furthest_behind_decides(self, stream: Stream) -> None:
        stream.batch(1)
        stream.batch(1, after_ms=2 * WINDOW_MS)
        assert stream.ledger.expire(0) == []

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 24 * HOUR_MS), st.integers(0, FUTURE_MS), st.integers(0, FUTURE_MS)
            ),
            min_size=1,
        )
    )
    def test_the_future_cannot_make_the_past_be_forgotten(
        self, batches: list[tuple[int, int, int]]
    ) -> None:
        """Whatever the records say, an id is remembered for a window by the clock."""
        stream = Stream()
        read_at: dict[str, int] = {}
        for after_ms, one_ms, other_ms in batches * 20:
            name = stream.batch(1, after_ms, (min(one_ms, other_ms), max(one_ms, other_ms)))
            read_at.setdefault(name, min(one_ms, stream.now_ms))
            for expired in stream.expired():
                assert read_at.pop(expired) + WINDOW_MS < stream.now_ms

    @given(st.lists(st.tuples(st.integers(0, 24 * HOUR_MS), st.integers(0, 48 * HOUR_MS))))
    def test_nothing_is_forgotten_inside_the_window_of_its_records(
        self, batches: list[tuple[int, int]]
    ) -> None:
        """However late records are, and in whichever order."""
        stream = Stream()
        newest_ms: dict[str, int] = {}
        for after_ms, late_ms in batches * 10:
            time_ms = stream.now_ms + after_ms
            name = stream.batch(2, after_ms, (max(0, time_ms - late_ms), time_ms))
            newest_ms[name] = max(time_ms, newest_ms.get(name, 0))
            for expired in stream.expired():
                assert newest_ms.pop(expired) + WINDOW_MS < stream.ledger.stream_time_ms


class TestNumbers:
    def test_a_number_is_not_used_again_when_all_have_expired(self, stream: Stream) -> None:
        stream.batch(1)
        stream.ledger.expire(WINDOW_MS + 1)
        assert stream.numbers() == []
        assert stream.batch(1)[-1] == "1"

    def test_nor_after_a_restart(self, stream: Stream) -> None:
        stream.batch(1)
        stream.ledger.expire(WINDOW_MS + 1)
        resumed = Stream(Ledger(0, WINDOW_MS, stream.ledger.state()))
        assert resumed.batch(1)[-1] == "1"

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([1, MIN_RECORDS, MAX_RECORDS]),
                st.sampled_from([0, HOUR_MS, 24 * HOUR_MS, 8 * 24 * HOUR_MS]),
                st.booleans(),
            ),
            max_size=40,
        )
    )
    def test_no_two_segments_ever_have_one_number(
        self, history: list[tuple[int, int, bool]]
    ) -> None:
        stream, expired = Stream(), set()
        for records, after_ms, restart in history:
            if restart:
                stream.ledger = Ledger(0, WINDOW_MS, stream.ledger.state())
            assert stream.batch(records, after_ms) not in expired
            expired.update(stream.expired())
            numbers = stream.numbers()
            assert numbers == sorted(set(numbers))


class TestState:
    def test_a_ledger_goes_on_from_its_state(self, stream: Stream) -> None:
        for _ in range(400):
            stream.batch(900, after_ms=HOUR_MS // 4)
        resumed = Stream(Ledger(0, WINDOW_MS, stream.ledger.state()), stream.now_ms)
        assert resumed.ledger.state() == stream.ledger.state()
        resumed.offset = stream.offset
        for _ in range(500):
            assert resumed.batch(900, HOUR_MS) == stream.batch(900, HOUR_MS)
            assert resumed.expired() == stream.expired()
        assert resumed.ledger.state() == stream.ledger.state()

    def test_the_state_is_a_copy(self, stream: Stream) -> None:
        stream.batch(1)
        state = stream.ledger.state()
        stream.batch(1, after_ms=1000)
        assert state.stream_time_ms == 0
        assert [segment.records for segment in state.segments] == [1]


@pytest.mark.parametrize(
    ("records", "every_ms"),
    [
        pytest.param(1, 6 * HOUR_MS, id="4 a day"),
        pytest.param(1, 60_000, id="1 a minute"),
        pytest.param(600, 60_000, id="10 a second"),
        pytest.param(30_000, 120_000, id="250 a second"),
    ],
)
def test_the_number_of_segments_is_bounded(records: int, every_ms: int) -> None:
    """Over three windows of steady traffic: each segment is a state key for the engine."""
    stream, most = Stream(), 0
    living: dict[str, int] = {}
    for _ in range(3 * WINDOW_MS // every_ms):
        name = stream.batch(records, every_ms)
        living[name] = living.get(name, 0) + records
        for expired in stream.expired():
            del living[expired]
        most = max(most, len(living))
    remembered = sum(living.values())
    steady = 18 + min(256, remembered // MIN_RECORDS) + remembered // MAX_RECORDS
    assert len(living) <= steady
    # While the window fills for the first time, segments are smaller.
    assert most <= 4 * steady
    assert len(living) == len(stream.ledger.segments)
    assert remembered == sum(segment.records for segment in stream.ledger.segments)
    # ... and forgetting is timely all the same.
    window = records * WINDOW_MS // every_ms
    assert window <= remembered <= window * 1.1 + 2 * MAX_RECORDS
