"""How far the input partitions have come: the one that is furthest behind decides."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.times import StreamTimes


@given(st.dictionaries(st.integers(0, 5), st.integers(1, 9), min_size=1))
def test_the_least_of_all_counts(times_ms: dict[int, int]) -> None:
    times = StreamTimes()
    for partition, time_ms in times_ms.items():
        times.tell(partition, time_ms)
    assert times.furthest_behind(times_ms) == min(times_ms.values())


def test_as_long_as_one_is_not_known_time_stands_still() -> None:
    times = StreamTimes()
    times.tell(0, 1000)
    assert times.furthest_behind([0, 1]) == 0
    times.tell(1, 2000)
    assert times.furthest_behind([0, 1]) == 1000


def test_what_was_told_last_counts() -> None:
    times = StreamTimes()
    for time_ms in (1000, 3000):
        times.tell(0, time_ms)
    assert times.furthest_behind([0]) == 3000


def test_without_partitions_there_is_no_time() -> None:
    assert StreamTimes().furthest_behind([]) == 0
