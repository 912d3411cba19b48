"""Since when the next record waits: at least since an end beyond it was seen."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.unread import PRECISION, Unread


def test_nothing_waits_in_a_partition_that_is_read() -> None:
    unread = Unread()
    unread.ends_at(10, 1.0)
    unread.read_up_to(10)
    assert unread.since_s is None
    unread.ends_at(10, 2.0)
    unread.read_up_to(10)
    assert unread.since_s is None


def test_ends_of_a_topic_that_was_deleted_are_forgotten_with_it() -> None:
    unread = Unread()
    unread.ends_at(500, 1.0)
    unread.ends_at(3, 9.0)
    assert unread.since_s == 9.0


@given(st.lists(st.tuples(st.integers(0, 30), st.floats(0.0, 1.0))))
def test_a_record_waits_for_hardly_longer_than_it_seems_to_and_never_for_less(
    steps: list[tuple[int, float]],
) -> None:
    unread = Unread()
    arrived_s: list[float] = []
    position = 0
    for now_s, (arriving, part_read) in enumerate(steps):
        arrived_s += [float(now_s)] * arriving
        unread.ends_at(len(arrived_s), float(now_s))
        position += int((len(arrived_s) - position) * part_read)
        unread.read_up_to(position)
        if position == len(arrived_s):
            assert unread.since_s is None
            continue
        assert unread.since_s is not None
        assert 0 <= unread.since_s - arrived_s[position] <= now_s / PRECISION


def test_a_day_without_reading_keeps_little_and_its_beginning() -> None:
    unread = Unread()
    for now_s in range(86_400):
        unread.ends_at(now_s + 1, float(now_s))
    assert unread.since_s == 0.0
    assert len(unread) < 1_000
    unread.read_up_to(50_000)
    assert unread.since_s is not None
    assert 50_000 <= unread.since_s <= 50_000 * (1 + 1 / PRECISION)
