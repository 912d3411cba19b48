"""The ages of what is parked: the oldest is known at any time, and how many need a person."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.parked_ages import ParkedAges


def test_the_oldest_is_the_first_that_has_no_outcome() -> None:
    ages = ParkedAges()
    assert (len(ages), ages.oldest_s) == (0, None)
    for n in range(3):
        ages.put(n, 100.0 + n, is_unresolved=False)
    ages.remove(1)
    assert (len(ages), ages.oldest_s) == (2, 100.0)
    ages.remove(0)
    assert (len(ages), ages.oldest_s) == (1, 102.0)


def test_another_attempt_makes_no_payment_younger() -> None:
    ages = ParkedAges()
    ages.put("a", 1.0, is_unresolved=False)
    ages.put("b", 2.0, is_unresolved=False)
    ages.put("a", 1.0, is_unresolved=False)
    assert (len(ages), ages.oldest_s) == (2, 1.0)


def test_a_payment_may_need_a_person_from_the_beginning_or_later() -> None:
    ages = ParkedAges()
    ages.put("a", 1.0, is_unresolved=True)
    ages.put("b", 2.0, is_unresolved=False)
    assert ages.unresolved == 1
    ages.put("b", 2.0, is_unresolved=True)
    ages.put("b", 2.0, is_unresolved=True)
    assert ages.unresolved == 2
    ages.put("b", 2.0, is_unresolved=False)
    ages.remove("a")
    assert ages.unresolved == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=60))
def test_any_course_has_the_same_figures_as_a_plain_list(
    course: list[tuple[int, bool]],
) -> None:
    """A number adds the payment, or removes it if it is there."""
    ages, plain = ParkedAges(), dict[int, tuple[float, bool]]()
    for at_s, (number, is_unresolved) in enumerate(course):
        if number in plain:
            ages.remove(number)
            del plain[number]
        else:
            ages.put(number, float(at_s), is_unresolved=is_unresolved)
            plain[number] = float(at_s), is_unresolved
        assert len(ages) == len(plain)
        assert ages.oldest_s == min((since_s for since_s, _ in plain.values()), default=None)
        assert ages.unresolved == sum(each for _, each in plain.values())
