"""Refused requests: a row of them is no row of declines."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.breaker import Breaker
from dataflow.core.refusals import ROW, Refusals


def test_a_row_is_believed_but_for_its_last() -> None:
    refusals = Refusals()
    assert [refusals.refused() for _ in range(ROW + 5)] == [True] * (ROW - 1) + [False] * 6
    refusals.decided()
    assert [refusals.refused(), refusals.are_believed] == [True, True]


def test_a_decision_in_between_ends_the_row() -> None:
    refusals = Refusals()
    for _ in range(10):
        assert all(refusals.refused() for _ in range(ROW - 1))
        refusals.decided()


def test_the_witness_is_due_in_the_middle_of_a_row_and_at_its_end() -> None:
    refusals, due = Refusals(), []
    for number in range(1, 3 * ROW):
        refusals.refused()
        due += [number] if refusals.is_witness_due else []
    assert due == [ROW // 2, ROW]


@given(st.lists(st.sampled_from(["decided", "refused", "no answer", "wrong key"]), max_size=300))
def test_no_more_than_so_many_are_published_between_two_decisions(answers: list[str]) -> None:
    """Whatever comes in between, as the dispatcher has it: an outage ends, but not the row."""
    refusals, breaker, published, row = Refusals(), Breaker(), 0, 0
    for answer in answers:
        if answer == "decided":
            refusals.decided()
            breaker.definite(first=True)
            published = row = 0
            assert not breaker.is_open
        elif answer == "refused":
            row += 1
            if refusals.refused():
                published += 1
                breaker.definite(first=True)
            else:
                breaker.misconfigured("refused", 1.0)
        elif answer == "no answer":
            breaker.indefinite("no answer", 1.0, first=True)
        else:
            breaker.misconfigured("401", 1.0)
        assert published == min(row, ROW - 1)
        assert breaker.is_open or row < ROW
