"""The breaker: an outage opens it, odd payments do not, any definite answer closes it."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.breaker import PROBATION, ROW, SHARE_BAD, SHARE_OF, Breaker


def fail(breaker: Breaker, times: int, *, first: bool = True) -> bool:
    opened = [breaker.indefinite("no answer", 1.0, first=first) for _ in range(times)]
    return any(opened)


def test_a_row_of_first_attempts_without_an_answer_opens_it() -> None:
    breaker = Breaker()
    assert not fail(breaker, ROW - 1)
    assert fail(breaker, 1)
    assert (breaker.open_since_s, breaker.reason, breaker.times_opened) == (1.0, "no answer", 1)


def test_a_definite_answer_in_between_ends_the_row() -> None:
    breaker = Breaker()
    fail(breaker, ROW - 1)
    breaker.definite(first=True)
    assert not fail(breaker, ROW - 1)


def test_a_few_answers_among_very_many_failures_do_not_keep_it_closed() -> None:
    breaker = Breaker()
    for _ in range(SHARE_OF - SHARE_BAD):
        breaker.definite(first=True)
        fail(breaker, SHARE_BAD // (SHARE_OF - SHARE_BAD) - 1)
    assert not breaker.is_open
    breaker.definite(first=True)
    assert fail(breaker, ROW - 1) or fail(breaker, SHARE_OF)
    assert breaker.is_open


@given(st.lists(st.booleans(), max_size=200))
def test_retries_never_open_it(outcomes: list[bool]) -> None:
    """At night, nothing but a few poisoned payments may be asked for."""
    breaker = Breaker()
    for definite in outcomes:
        if definite:
            breaker.definite(first=False)
        else:
            breaker.indefinite("no answer", 1.0, first=False)
    assert not breaker.is_open


@given(st.lists(st.booleans(), max_size=300))
def test_it_opens_exactly_by_the_rule(outcomes: list[bool]) -> None:
    breaker, seen, row = Breaker(), [], 0
    for definite in outcomes:
        seen.append(definite)
        row = 0 if definite else row + 1
        last = seen[-SHARE_OF:]
        if definite:
            breaker.definite(first=True)
            continue
        opened = breaker.indefinite("no answer", 1.0, first=True)
        assert opened == (row >= ROW or last.count(False) >= SHARE_BAD)
        if opened:
            break


def test_wrong_credentials_open_it_at_once() -> None:
    breaker = Breaker()
    assert breaker.misconfigured("401", 3.0)
    assert not breaker.misconfigured("401 again", 4.0)
    assert (breaker.open_since_s, breaker.reason) == (3.0, "401 again")
    assert breaker.is_misconfigured


def test_the_last_reason_decides_whether_the_provider_refuses_us() -> None:
    breaker = Breaker()

    def refuses() -> bool:
        return breaker.is_misconfigured

    fail(breaker, ROW)
    assert not refuses()
    breaker.misconfigured("401", 2.0)
    assert refuses(), "it is back, with another password"
    fail(breaker, 1)
    assert not refuses()
    breaker.definite(first=False)
    breaker.misconfigured("401", 3.0)
    assert refuses()
    breaker.definite(first=False)
    fail(breaker, ROW)
    assert not refuses()


def test_any_definite_answer_closes_it() -> None:
    breaker = Breaker()
    breaker.misconfigured("401", 3.0)
    assert not fail(breaker, 3, first=False)
    assert breaker.definite(first=False)
    assert not breaker.is_open
    assert not breaker.definite(first=False)


def test_fewer_failures_open_it_again_after_an_outage() -> None:
    breaker = Breaker()
    fail(breaker, ROW)
    breaker.definite(first=True)
    assert not fail(breaker, 4)
    assert fail(breaker, 1)


def test_it_takes_as_many_as_before_after_a_while() -> None:
    breaker = Breaker()
    fail(breaker, ROW)
    breaker.definite(first=True)
    breaker.definite(first=True, count=PROBATION)
    assert not fail(breaker, ROW - 1)
    assert fail(breaker, 1)
