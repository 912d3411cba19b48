"""The last minutes, on a clock that a test moves."""

import pytest

from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.recent import SECONDS, Recent
from schemas.outcomes import ErrorCode


class Clock:
    now = 1000.25

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recent(clock: Clock) -> Recent:
    return Recent(clock)


def test_transactions_of_a_second_add_up_once_it_is_over(recent: Recent, clock: Clock) -> None:
    recent.add(CommitCounts(processed=3, failed={ErrorCode.DECLINED: 1}))
    recent.add(CommitCounts(processed=4, failed={ErrorCode.DECLINED: 1, ErrorCode.INVALID: 2}))
    assert recent.total(60) == CommitCounts(), "half a second would look like half the rate"
    clock.now += 1
    expected = CommitCounts(processed=7, failed={ErrorCode.DECLINED: 2, ErrorCode.INVALID: 2})
    assert recent.total(60) == expected
    assert recent.total(1) == expected
    clock.now += 1
    assert recent.total(1) == CommitCounts()


def test_each_second_is_there_even_if_nothing_happened(recent: Recent, clock: Clock) -> None:
    for processed in (1, 0, 3):
        if processed:
            recent.add(CommitCounts(processed=processed))
        clock.now += 1
    assert [counts.processed for counts in recent.each(5)] == [0, 0, 1, 0, 3]
    assert [counts.processed for counts in recent.each(2)] == [0, 3]


def test_older_ids_are_forgotten(recent: Recent, clock: Clock) -> None:
    for _ in range(2 * SECONDS):
        recent.add(CommitCounts(processed=1))
        clock.now += 1
    assert recent.total(SECONDS).processed == SECONDS
    assert recent.total(10 * SECONDS).processed <= SECONDS + 1
    clock.now += SECONDS
    assert recent.total(SECONDS) == CommitCounts()


def test_just_after_the_start_there_is_less_to_divide_by(recent: Recent, clock: Clock) -> None:
    assert recent.covered(60) == 1
    clock.now += 20
    assert recent.covered(60) == 20
    clock.now += 100
    assert recent.covered(60) == 60


def test_a_copy_is_handed_out(recent: Recent, clock: Clock) -> None:
    recent.add(CommitCounts(processed=1))
    clock.now += 1
    recent.each(1)[0].processed = 99
    recent.total(1).processed = 99
    assert recent.total(1).processed == 1
