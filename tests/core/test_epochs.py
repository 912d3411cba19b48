"""The time at which a source that has nothing more asks again."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataflow.core.epochs import NEAR, Epochs

INTERVALS_MS = st.integers(10, 1000)
INSTANTS = st.floats(1.7e9, 1.9e9)
EVERY_MS = pytest.mark.parametrize(
    ("interval_ms", "idle_ms"), [(10, 60), (20, 60), (50, 100), (60, 60), (100, 100), (1000, 1000)]
)


@given(INTERVALS_MS, INSTANTS, st.booleans())
def test_it_wakes_later_but_not_much(interval_ms: int, now_s: float, idle: bool) -> None:  # noqa: FBT001
    wait_s = Epochs(interval_ms / 1000).next_s(now_s, idle=idle) - now_s
    assert 0 < wait_s < (interval_ms + (60 if idle else 0) + 1) / 1000


@given(INTERVALS_MS, st.integers(0, 10**11))
def test_it_wakes_at_the_next_instant(interval_ms: int, number: int) -> None:
    interval_s = interval_ms / 1000
    instant_s = number * interval_s % 1.9e9 // interval_s * interval_s
    after_s = Epochs(interval_s).next_s(instant_s, idle=False) - instant_s
    assert after_s == pytest.approx(interval_s, abs=1e-5)


@EVERY_MS
def test_it_wakes_less_often_without_records(interval_ms: int, idle_ms: int) -> None:
    epochs = Epochs(interval_ms / 1000)
    first = epochs.next_s(1.75e9, idle=True)
    assert epochs.next_s(first + 1e-3, idle=True) - first == pytest.approx(idle_ms / 1000, abs=1e-5)


@EVERY_MS
def test_it_polls_once_in_an_interval(interval_ms: int, idle_ms: int) -> None:
    del idle_ms
    epochs = Epochs(interval_ms / 1000)
    first = epochs.next_s(1.75e9, idle=False)
    asked_s = epochs.next_s(first + 1e-3, idle=False) - first
    assert asked_s == pytest.approx(interval_ms / 1000, abs=1e-5)


@given(INTERVALS_MS, INSTANTS, st.floats(0, 0.999))
@example(interval_ms=381, now_s=1820289104.265625, later=0.99609375)
def test_all_partitions_wake_at_the_same_instants(
    interval_ms: int, now_s: float, later: float
) -> None:
    """Of two that have asked at different times within an interval, both ask at its end.

    Unless the second asks so near to the end that it is the end: its next one is an interval later.
    """
    epochs = Epochs(interval_ms / 1000)
    end_s = epochs.next_s(now_s, idle=False)
    other_s = now_s + later * (end_s - now_s)
    at_the_end = end_s - other_s <= NEAR * epochs.interval_s + 1e-6
    next_s = epochs.next_s(other_s, idle=False)
    after_s = epochs.interval_s if at_the_end and next_s != end_s else 0
    assert next_s == pytest.approx(end_s + after_s, abs=1e-5)


@given(INTERVALS_MS, INSTANTS)
def test_a_partition_that_wakes_less_often_does_so_at_an_instant_of_the_others(
    interval_ms: int, now_s: float
) -> None:
    """Otherwise it would end an epoch of its own, and the others' would be open for longer."""
    epochs = Epochs(interval_ms / 1000)
    at_s = epochs.next_s(now_s, idle=True)
    others_s = epochs.next_s(at_s - interval_ms / 2000, idle=False)
    assert others_s == pytest.approx(at_s, abs=1e-5)
