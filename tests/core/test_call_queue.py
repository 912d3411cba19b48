"""The order of calls: each payment is taken out once, none is shut out, and none is forgotten."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.call_queue import NEW_IN_A_ROW, CallQueue
from dataflow.core.lane_queue import Charge


def charge(*, parked: bool = False) -> Charge:
    """Return a payment; of one that is parked, only that it is matters here."""
    made: Any = Charge(0, None, 0.0)  # type: ignore[arg-type]
    made.parked = object() if parked else None
    return made  # type: ignore[no-any-return]


def test_new_payments_come_in_their_order() -> None:
    queue = CallQueue()
    charges = [charge() for _ in range(3)]
    for each in charges:
        queue.add(each)
    assert [queue.next() for _ in range(4)] == [*charges, None]


def test_new_ones_do_not_shut_out_the_others() -> None:
    queue = CallQueue()
    again = charge(parked=True)
    queue.add_due(again)
    for _ in range(10):
        queue.add(charge())
    taken = [queue.next() for _ in range(NEW_IN_A_ROW + 1)]
    assert taken[-1] is again


def test_a_payment_that_its_lane_waits_for_goes_first_once_it_is_due() -> None:
    queue = CallQueue()
    waited_for, other = charge(), charge()
    queue.put_off(waited_for, 5.0)
    queue.add(other)
    assert (queue.next_s, queue.outstanding) == (5.0, 2)
    queue.advance(4.9)
    assert queue.next() is other
    queue.add(other)
    queue.advance(5.0)
    assert queue.next() is waited_for


def test_all_that_waits_is_due_after_an_outage() -> None:
    queue = CallQueue()
    waiting = [charge(parked=n % 2 == 0) for n in range(4)]
    for n, each in enumerate(waiting):
        queue.put_off(each, 1000.0 - n)
    queue.release()
    assert [queue.next() for _ in range(4)] == waiting[::-1]
    assert (queue.next_s, queue.outstanding, queue.waiting) == (None, 0, 0)


def test_a_probe_is_in_turn_a_new_one_and_one_that_waits() -> None:
    queue = CallQueue()
    new, waits = [charge(), charge()], [charge(parked=True), charge(parked=True)]
    for each in new:
        queue.add(each)
    for n, each in enumerate(waits):
        queue.put_off(each, 100.0 + n)
    assert [queue.probe() for _ in range(5)] == [new[0], waits[0], new[1], waits[1], None]


@given(
    st.lists(st.sampled_from(["add", "due", "later", "parked later", "advance", "release", "next"]))
)
def test_each_payment_is_taken_out_once(steps: list[str]) -> None:
    queue, inside, now_s = CallQueue(), set[Charge](), 0.0
    for step in steps:
        made = charge(parked=step in {"due", "parked later"})
        if step == "add":
            queue.add(made)
        elif step == "due":
            queue.add_due(made)
        elif "later" in step:
            queue.put_off(made, now_s + 1)
        elif step == "advance":
            now_s += 1
            queue.advance(now_s)
        elif step == "release":
            queue.release()
        elif (taken := queue.next()) is not None:
            inside.remove(taken)
        if step in {"add", "due", "later", "parked later"}:
            inside.add(made)
        assert len(inside) == queue.new + queue.waiting
    while (probe := queue.probe()) is not None:
        inside.remove(probe)
    assert not inside
