"""The schedule: soon while a lane waits, seldom later, and never a post under a dead key."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.retry_schedule import (
    KEY_MARGIN_S,
    SOON_MOST_S,
    Ask,
    parked_s,
    soon_s,
    way_to_ask,
)

DAY_S = 24 * 3600.0


def test_the_pauses_of_what_is_parked() -> None:
    hours = [parked_s(n, 1.0) / 3600 for n in range(1, 9)]
    assert hours == [1 / 60, 5 / 60, 15 / 60, 1, 4, 12, 12, 12]


def test_the_pauses_while_a_lane_waits() -> None:
    assert [soon_s(n, 1.0) for n in range(1, 7)] == [0.3, 0.6, 1.2, 2.4, 4.8, SOON_MOST_S]


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_a_pause_is_drawn_between_half_of_it_and_all(attempts: int, draw: float) -> None:
    for pause_s in (parked_s, soon_s):
        assert pause_s(attempts, 1.0) / 2 <= pause_s(attempts, draw) <= pause_s(attempts, 1.0)


@given(st.floats(0, 1e9), st.none() | st.floats(2 * 3600, 1e8), st.booleans())
def test_nothing_is_posted_under_a_key_that_may_be_forgotten(
    age_s: float,
    life_s: float | None,
    can_look_up: bool,  # noqa: FBT001  (drawn)
) -> None:
    way = way_to_ask(age_s, life_s, can_look_up=can_look_up)
    if life_s is not None and age_s >= life_s - KEY_MARGIN_S:
        assert way is (Ask.LOOK_UP if can_look_up else Ask.NOTHING)
    else:
        assert way is Ask.POST


def test_a_key_of_a_day_is_posted_for_23_hours() -> None:
    assert way_to_ask(DAY_S - 3601, DAY_S, can_look_up=True) is Ask.POST
    assert way_to_ask(DAY_S - 3600, DAY_S, can_look_up=True) is Ask.LOOK_UP
    assert way_to_ask(DAY_S - 3600, DAY_S, can_look_up=False) is Ask.NOTHING
