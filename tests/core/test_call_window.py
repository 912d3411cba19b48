"""The window of calls in flight: never more than it allows, and open again after an outage."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.call_window import CallWindow


def test_all_may_be_in_flight_at_the_beginning() -> None:
    window = CallWindow(3)
    for _ in range(3):
        assert window.free
        window.began()
    assert window.free == 0


def test_a_call_that_ends_makes_room_for_one() -> None:
    window = CallWindow(2)
    window.began()
    window.began()
    window.ended(definite=False)
    assert window.free == 1


def test_the_window_doubles_in_each_round_trip_after_an_outage() -> None:
    window = CallWindow(8)
    window.shut()
    sizes = []
    while window.limit < 8:
        sizes.append(window.free)
        rounds = window.free
        for _ in range(rounds):
            window.began()
        for _ in range(rounds):
            window.ended(definite=True)
    assert sizes == [1, 2, 4]


def test_failures_do_not_open_it() -> None:
    window = CallWindow(8)
    window.shut()
    window.began()
    window.ended(definite=False)
    assert window.limit == 1


@given(st.integers(1, 20), st.lists(st.sampled_from(["begin", "good", "bad", "shut"])))
def test_it_never_allows_more_than_its_most(most: int, steps: list[str]) -> None:
    window = CallWindow(most)
    for step in steps:
        if step == "begin" and window.free:
            window.began()
        elif step in {"good", "bad"} and window.in_flight:
            window.ended(definite=step == "good")
        elif step == "shut":
            window.shut()
        assert 0 <= window.in_flight <= most
        assert 1 <= window.limit <= most
        assert window.free <= max(0, window.limit - window.in_flight)
