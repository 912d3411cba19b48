"""The size of the batches: a worker's partitions all have their turn in time."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.batch_size import FIRST, LEAST, MOST, BatchSizer


def decided(seconds: Callable[[int], float], batches: int = 50) -> BatchSizer:
    """Return the pace after some full batches that each take so long."""
    sizer = BatchSizer()
    for _ in range(batches):
        sizer.measured(sizer.limit, seconds(sizer.limit))
    return sizer


def test_it_begins_carefully() -> None:
    assert BatchSizer().limit == FIRST


@given(st.lists(st.tuples(st.integers(0, MOST), st.floats(0, 1e6)), max_size=50))
def test_the_limit_has_limits(measured: list[tuple[int, float]]) -> None:
    sizer = BatchSizer()
    for records, seconds in measured:
        sizer.measured(min(records, sizer.limit), seconds)
        assert LEAST <= sizer.limit <= MOST


def test_a_fast_flow_gets_a_whole_epoch_at_once() -> None:
    assert decided(lambda records: records / 300_000, batches=4).limit == MOST


@pytest.mark.parametrize("per_second", [200, 2_000, 8_000])
def test_a_slower_one_gets_what_it_decides_in_two_seconds(per_second: int) -> None:
    assert decided(lambda n: n / per_second).limit == pytest.approx(2 * per_second, rel=0.01)


@given(st.floats(1, 49))
def test_the_slowest_one_still_gets_a_few(per_second: float) -> None:
    assert decided(lambda n: n / per_second).limit == LEAST


def test_slower_batches_shrink_the_limit() -> None:
    sizer = decided(lambda records: records / 300_000)
    sizer.measured(MOST, 100.0)
    assert sizer.limit == MOST // 50


def test_it_recovers_by_and_by() -> None:
    sizer = BatchSizer()
    sizer.measured(FIRST, 40.0)
    limits = [sizer.limit]
    for _ in range(3):
        sizer.measured(sizer.limit, 0.001)
        limits.append(sizer.limit)
    assert limits == [LEAST, 400, 1_600, 6_400]


def test_small_batches_prove_nothing() -> None:
    sizer = BatchSizer()
    for _ in range(10):
        sizer.measured(FIRST // 2 - 1, 0.001)
    assert sizer.limit == FIRST


def test_a_batch_that_took_no_time_is_no_division_by_zero() -> None:
    sizer = BatchSizer()
    sizer.measured(FIRST, 0.0)
    assert sizer.limit == 4 * FIRST
