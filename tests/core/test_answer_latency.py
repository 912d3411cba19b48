"""Time to wait, and credit: they follow what the provider takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.answer_latency import AnswerLatency


def answering(seconds: float, most_s: float = 5.0) -> AnswerLatency:
    latency = AnswerLatency(most_s)
    for _ in range(500):
        latency.answered(seconds)
    return latency


def test_the_provider_is_taken_to_be_slow_before_the_first_answer() -> None:
    latency = AnswerLatency(5.0)
    assert latency.park_after_s(0, 256) > 2
    assert latency.credit(0, 256, 0.2) < 4 * 256


@pytest.mark.parametrize(("seconds", "least_s"), [(0.0, 0.4), (0.1, 0.7), (0.5, 2.0), (1.0, 4.0)])
def test_a_lane_waits_several_times_the_usual(seconds: float, least_s: float) -> None:
    assert answering(seconds).park_after_s(0, 256) >= least_s


def test_the_queue_before_counts_too() -> None:
    latency = answering(0.1)
    assert latency.park_after_s(2560, 256) == pytest.approx(
        latency.park_after_s(0, 256) + 1.0, rel=0.01
    )


@given(st.floats(0, 60), st.integers(0, 10**6), st.integers(1, 10_000), st.floats(1, 60))
def test_it_is_never_more_than_the_most(
    seconds: float, queued: int, window: int, most_s: float
) -> None:
    assert 0 < answering(seconds, most_s).park_after_s(queued, window) <= most_s


@given(st.floats(0, 10), st.integers(1, 10_000), st.floats(0, 2))
def test_credit_keeps_the_window_full_and_no_more(
    seconds: float, window: int, epoch_s: float
) -> None:
    latency = answering(seconds)
    most = latency.credit(0, window, epoch_s)
    assert most >= window
    assert latency.credit(most, window, epoch_s) == 0
    assert latency.credit(most - 1, window, epoch_s) == 1
    # What is read beyond the window is charged soon: in the time of an epoch and a little more.
    assert (most - window) * max(latency.mean_s, 0.005) / window <= epoch_s + 0.26
