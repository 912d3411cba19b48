"""Timestamps of senders with a broken clock, and of those that are only late."""

import numpy as np
import pytest

from dataflow.core.timestamps import AHEAD_MS, PAST_MS, oldest_plausible_ms, plausible

NOW_MS = 1_767_225_600_000
DAY_MS = 24 * 3600 * 1000
YEAR_2500_MS = 16_725_225_600_000
NONSENSE_MS = [0, 1, NOW_MS // 1000, YEAR_2500_MS, np.iinfo(np.int64).max]
"""1970; seconds taken for milliseconds; a date far ahead; whatever fits into the field."""


@pytest.mark.parametrize("time_ms", [*NONSENSE_MS, NOW_MS - PAST_MS - 1, NOW_MS + AHEAD_MS + 1])
def test_a_timestamp_that_cannot_be_true_is_not_believed(time_ms: int) -> None:
    assert not plausible(np.array([time_ms], np.int64), NOW_MS)[0]


@pytest.mark.parametrize("age_ms", [0, -AHEAD_MS, 7 * DAY_MS, PAST_MS])
def test_a_late_record_and_a_clock_a_little_ahead_are_believed(age_ms: int) -> None:
    """A backlog of a whole retention has to count as one."""
    assert plausible(np.array([NOW_MS - age_ms], np.int64), NOW_MS)[0]


def test_the_oldest_is_the_oldest_of_those_that_can_be_true() -> None:
    times_ms = np.array([NOW_MS, *NONSENSE_MS, NOW_MS - DAY_MS, NOW_MS - 5], np.int64)
    assert oldest_plausible_ms(times_ms, NOW_MS) == NOW_MS - DAY_MS


def test_records_count_from_now_when_no_timestamp_can_be_true() -> None:
    assert oldest_plausible_ms(np.array(NONSENSE_MS, np.int64), NOW_MS) == NOW_MS
