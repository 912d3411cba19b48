"""The progress of reading the input by our clock: an instant's records decide, no timestamp."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.watermarks import Clock, ReadUpTo, Watermarks

WINDOW_MS = 64_000
APART_MS = WINDOW_MS // 16
NOW = 1_767_225_600_000


def read_up_to(*ends: tuple[int, int]) -> ReadUpTo:
    """Return a partition that ended there at these times."""
    made = ReadUpTo(WINDOW_MS)
    for end_offset, at_ms in ends:
        made.ends_at(end_offset, at_ms)
    return made


class TestReadUpTo:
    def test_a_partition_that_was_never_looked_at_has_none(self) -> None:
        assert not read_up_to().advance(1_000_000)
        assert read_up_to().time_ms == 0

    def test_it_is_the_time_when_the_partition_ended_where_it_is_read_to(self) -> None:
        partition = read_up_to((100, NOW))
        assert not partition.advance(99)
        assert partition.time_ms == 0
        assert partition.advance(100)
        assert partition.time_ms == NOW - APART_MS

    def test_the_clocks_may_be_a_minute_apart(self) -> None:
        long = ReadUpTo(7 * 24 * 3600 * 1000)
        long.ends_at(0, NOW)
        assert long.advance(0)
        assert long.time_ms == NOW - 60_000

    def test_a_partition_that_others_read_does_not_fill_the_memory(self) -> None:
        partition = read_up_to(*((n, NOW + 1_000 * n) for n in range(10_000)))
        assert len(partition._ends) <= 2 * 64
        assert partition.advance(127)
        assert partition.time_ms == NOW + 127_000 - APART_MS
        partition.ends_at(10_000, NOW + 10_000_000)
        assert partition.advance(10_000)
        assert partition.time_ms == NOW + 10_000_000 - APART_MS

    def test_an_empty_partition_follows_the_clock(self) -> None:
        partition = read_up_to()
        for n in range(3):
            partition.ends_at(0, NOW + n * 5_000)
            assert partition.advance(0)
        assert partition.time_ms == NOW + 10_000 - APART_MS

    def test_a_backlog_holds_it_until_it_is_read(self) -> None:
        """Whatever its records are stamped: their copies may be in it, too."""
        partition = read_up_to((1_000, NOW), (1_500, NOW + 60_000), (2_000, NOW + 120_000))
        assert not partition.advance(999)
        assert partition.advance(1_600)
        assert partition.time_ms == NOW + 60_000 - APART_MS
        assert partition.is_waiting()
        assert partition.advance(2_000)
        assert not partition.is_waiting()

    def test_it_never_goes_back(self) -> None:
        partition = read_up_to((100, NOW))
        partition.advance(100)
        partition._looked_ms = 0  # as if the clock had been set back
        partition.ends_at(100, NOW - 3_600_000)
        assert not partition.advance(100)
        assert partition.time_ms == NOW - APART_MS

    def test_it_is_looked_at_often_enough_and_not_more_often(self) -> None:
        partition = read_up_to(*((0, NOW + n * 100) for n in range(101)))
        assert len(partition._ends) == 11


steps = st.lists(
    st.tuples(st.floats(0, 1e5), st.floats(-1e7, 1e7) | st.just(0.0)), min_size=1, max_size=30
)
"""The time that passes, and by how much the clock is set then."""


class TestClock:
    @given(steps)
    def test_it_is_never_ahead_of_the_time_that_has_passed(
        self, given_steps: list[tuple[float, float]]
    ) -> None:
        clock = Clock(NOW / 1000, 5_000.0)
        passed_s = set_s = 0.0
        for seconds, jump_s in given_steps:
            passed_s, set_s = passed_s + seconds, set_s + jump_s
            found_s = clock.now_s(NOW / 1000 + passed_s + set_s, 5_000 + passed_s)
            assert found_s <= NOW / 1000 + passed_s + 1e-3
            assert found_s <= NOW / 1000 + passed_s + set_s

    @given(steps)
    def test_no_jump_makes_a_watermark_come_too_early(
        self, given_steps: list[tuple[float, float]]
    ) -> None:
        """So nothing is forgotten that was read within the window, by the time that has passed."""
        clock, partition = Clock(NOW / 1000, 0.0), ReadUpTo(WINDOW_MS)
        passed_s = set_s = 0.0
        for seconds, jump_s in given_steps:
            passed_s, set_s = passed_s + seconds, set_s + jump_s
            now_s = clock.now_s(NOW / 1000 + passed_s + set_s, passed_s)
            partition.ends_at(0, int(now_s * 1000))
            partition.advance(0)
            assert partition.time_ms <= NOW + passed_s * 1000

    def test_it_follows_a_clock_that_was_right_all_the_time(self) -> None:
        clock = Clock(1_000.0, 50.0)
        assert [clock.now_s(1_000.0 + n, 50.0 + n) for n in range(3)] == [1_000, 1_001, 1_002]


class TestWatermarks:
    @given(st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1))
    def test_the_least_of_all_counts(self, times_ms: dict[int, int]) -> None:
        watermarks = Watermarks(times_ms)
        for partition, time_ms in times_ms.items():
            assert watermarks.least_ms() == 0
            watermarks.announce(partition, time_ms)
        assert watermarks.least_ms() == min(times_ms.values())

    def test_the_last_announcement_counts_unless_it_goes_back(self) -> None:
        watermarks = Watermarks([0])
        for time_ms in (1000, 3000, 2000):
            watermarks.announce(0, time_ms)
        assert watermarks.least_ms() == 3000

    def test_there_is_none_without_partitions(self) -> None:
        assert Watermarks([]).least_ms() == 0
