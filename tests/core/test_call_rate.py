"""The rate of calls: never above the limit, halved when the provider asks for it, then back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.call_rate import PAUSE_S, CallRate


def send_for(rate: CallRate, seconds: float, from_s: float) -> int:
    """Send whenever it may be; return how many that were."""
    now_s, sent = from_s, 0
    while now_s < from_s + seconds:
        wait_s = rate.wait_s(now_s)
        if wait_s > 0:
            now_s += max(wait_s, 1e-6)
            continue
        rate.sent(now_s)
        sent += 1
        if rate.limit is None:
            now_s += 0.001
    return sent


def test_nothing_waits_without_a_limit() -> None:
    rate = CallRate(None, 0.0)
    assert send_for(rate, 1.0, 0.0) == pytest.approx(1000, abs=2)


@given(st.floats(1, 500), st.floats(1, 20))
def test_it_is_never_faster_than_configured(most: float, seconds: float) -> None:
    """But for the second's worth that may come at once."""
    sent = send_for(CallRate(most, 0.0), seconds, 0.0)
    assert sent <= most * seconds + most + 1
    assert sent >= most * seconds - 1


def test_a_second_s_worth_may_come_at_once_after_a_pause() -> None:
    rate = CallRate(10.0, 0.0)
    send_for(rate, 5.0, 0.0)
    count = 0
    while rate.wait_s(100.0) == 0:
        rate.sent(100.0)
        count += 1
    assert count == 10


def test_too_fast_pauses_for_the_time_the_provider_names_and_halves_the_rate() -> None:
    rate = CallRate(100.0, 0.0)
    send_for(rate, 3.0, 0.0)
    rate.too_fast(2.0, 3.0)
    assert rate.wait_s(3.0) == pytest.approx(2.0)
    assert rate.wait_s(4.9) > 0
    sent = send_for(rate, 1.0, 5.0)
    assert 45 <= sent <= 60


def test_answers_to_calls_of_before_the_pause_count_once() -> None:
    rate = CallRate(100.0, 0.0)
    send_for(rate, 3.0, 0.0)
    for _ in range(50):
        rate.too_fast(None, 3.0)
    assert rate.limit is not None
    assert rate.limit >= 45
    assert rate.wait_s(3.0) == pytest.approx(PAUSE_S)


def test_the_longest_pause_that_is_demanded_counts() -> None:
    """The first answers may name none, and a later one a long one."""
    rate = CallRate(100.0, 0.0)
    send_for(rate, 3.0, 0.0)
    rate.too_fast(None, 3.0)
    rate.too_fast(7.0, 3.1)
    rate.too_fast(1.0, 3.2)
    rate.too_fast(None, 3.3)
    assert rate.limit == pytest.approx(50, rel=0.1), "halved once"
    assert rate.wait_s(3.3) == pytest.approx(6.8)
    assert send_for(rate, 1.0, 3.1 + 7.0) >= 45


def test_it_never_falls_below_one_call_in_a_second() -> None:
    rate = CallRate(None, 0.0)
    send_for(rate, 3.0, 0.0)
    for number in range(100):
        rate.too_fast(None, 3.0 + number)
    assert rate.limit == 1.0
    assert rate.wait_s(102.0 + PAUSE_S + 1.0) == 0


def test_it_comes_back_to_the_configured_rate() -> None:
    rate = CallRate(100.0, 0.0)
    send_for(rate, 3.0, 0.0)
    rate.too_fast(None, 3.0)
    send_for(rate, 15.0, 3.0)
    assert rate.limit == 100.0


def test_the_limit_goes_again_without_a_configured_rate() -> None:
    rate = CallRate(None, 0.0)
    send_for(rate, 3.0, 0.0)
    rate.too_fast(None, 3.0)
    assert rate.limit == pytest.approx(500, rel=0.1)
    send_for(rate, 60.0, 3.0)
    assert rate.limit is None


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 10)), max_size=40))
def test_it_never_stands_still_for_ever(steps: list[tuple[float, bool, float]]) -> None:
    rate, now_s = CallRate(50.0, 0.0), 0.0
    for passed_s, too_fast, asked_s in steps:
        now_s += passed_s
        if too_fast:
            rate.too_fast(asked_s, now_s)
        elif rate.wait_s(now_s) == 0:
            rate.sent(now_s)
    wait_s = rate.wait_s(now_s)
    assert wait_s <= 10 + 1
    assert rate.wait_s(now_s + wait_s + 1.01) == 0
