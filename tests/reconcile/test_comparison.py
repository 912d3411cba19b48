"""The comparison of the provider's payments with the processed events."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.gateways.listing import ListedPayment, ListedState
from dataflow.reconcile.comparison import Comparison, Difference, Period, Published, Result

PERIOD = Period(1_000.0, 2_000.0)
IN_S = 1_500.0


def charge(payment_id: str | None = "pay_1", **changes: Any) -> ListedPayment:
    fields: dict[str, Any] = {
        "payment_id": payment_id,
        "reference": f"ch_{payment_id}",
        "amount": Decimal("10.00"),
        "currency": "USD",
        "created_s": IN_S,
    }
    return ListedPayment(**fields | changes)


def event(payment_id: str = "pay_1", **changes: Any) -> Published:
    found = Published(payment_id, f"ch_{payment_id}", Decimal(10), "USD", IN_S + 1)
    return found._replace(**changes)


def compared(
    *sides: ListedPayment | Published, failed: tuple[str, ...] = (), waiting: tuple[str, ...] = ()
) -> Result:
    comparison = Comparison(PERIOD, waiting)
    for each in sides:
        if isinstance(each, ListedPayment):
            comparison.take_listed(each)
        else:
            comparison.take_processed(each)
    for payment_id in failed:
        comparison.take_failed(payment_id)
    return comparison.result()


def kinds(found: Result) -> list[Difference]:
    return [each.difference for each in found.findings]


def test_both_sides_agree() -> None:
    found = compared(charge(), event(), charge("pay_2"), event("pay_2"))
    assert found.agrees
    assert found.counts == Counter(charged=2, processed=2, foreign=0)
    assert (found.sums["USD"].charged, found.sums["USD"].difference) == (Decimal(20), Decimal(0))


@pytest.mark.parametrize(
    ("sides", "more", "difference", "off"),
    [
        ([charge()], {}, Difference.NOT_PUBLISHED, "10"),
        ([charge()], {"failed": ("pay_1",)}, Difference.FAILED, "10"),
        ([event()], {}, Difference.NOT_CHARGED, "-10"),
        ([event(), charge(state=ListedState.DECLINED)], {}, Difference.NOT_CHARGED, "-10"),
        ([event(), charge(state=ListedState.PENDING)], {}, Difference.NOT_CHARGED, "-10"),
        ([event(), charge(amount=Decimal("10.01"))], {}, Difference.AMOUNT, "0.01"),
        ([event(), charge(currency="EUR")], {}, Difference.AMOUNT, "-10"),
        ([event(), charge(reference="ch_2")], {}, Difference.REFERENCE, "0"),
        ([event(), charge(), charge(reference="ch_2")], {}, Difference.TWICE, "10"),
    ],
)
def test_a_difference_is_found(
    sides: list[Any], more: dict[str, Any], difference: Difference, off: str
) -> None:
    found = compared(*sides, **more)
    assert kinds(found) == [difference]
    assert found.sums["USD"].difference == Decimal(off)
    if any(isinstance(each, ListedPayment) for each in sides):
        assert found.findings[0].charged is not None, "what the provider has of it is shown"


def test_a_pending_payment_is_no_difference() -> None:
    """The flow looks it up; but a charge that was published as failed is one."""
    found = compared(charge(), waiting=("pay_1",))
    assert found.agrees
    assert (found.counts["waiting"], found.sums["USD"].difference) == (1, Decimal(0))
    assert found.sums["USD"].waiting == 10


def test_a_decline_without_an_event_is_no_difference() -> None:
    assert compared(charge(state=ListedState.DECLINED), charge(state=ListedState.PENDING)).agrees


def test_payments_of_another_system_only_count() -> None:
    found = compared(charge(None))
    assert (found.agrees, found.counts["foreign"], dict(found.sums)) == (True, 1, {})


def test_a_file_without_references_agrees() -> None:
    assert compared(charge(reference=""), event()).agrees


def test_a_paymentid_that_came_again_after_the_window_is_two_payments() -> None:
    """They belong together by their references, whatever their order."""
    found = compared(
        charge(reference="a"),
        charge(reference="b", amount=Decimal(20)),
        event(reference="b", amount=Decimal(20)),
        event(reference="a"),
    )
    assert found.agrees


@pytest.mark.parametrize(
    ("created_s", "at_s", "is_judged"),
    [
        (999.9, None, False),
        (1_000.0, None, True),
        (1_999.9, None, True),
        (2_000.0, None, False),
        (None, 999.0, False),
        (None, 1_000.0, True),
        (None, 2_000.0, False),
    ],
)
def test_only_payments_of_the_time_are_judged(
    created_s: float | None, at_s: float | None, *, is_judged: bool
) -> None:
    sides = [charge(created_s=created_s)] if created_s is not None else [event(at_s=at_s)]
    assert compared(*sides).agrees is not is_judged


def test_a_payment_that_was_processed_late_is_compared_with_its_charge() -> None:
    """It waited for days; the sums have it on both sides, or on none."""
    late = compared(charge(created_s=10.0), event())
    assert (late.agrees, late.sums["USD"].charged) == (True, Decimal(10))
    early = compared(charge(), event(at_s=9_999.0))
    assert (early.agrees, early.sums["USD"].processed) == (True, Decimal(10))


amounts = st.integers(1, 10**9).map(lambda minor: Decimal(minor).scaleb(-2))


@given(st.lists(st.tuples(amounts, st.sampled_from(["USD", "EUR"]), st.booleans(), st.booleans())))
def test_sums_are_off_by_what_the_findings_are(
    payments: list[tuple[Decimal, str, bool, bool]],
) -> None:
    """To the cent: nothing is hidden by another payment that is off the other way."""
    sides: list[ListedPayment | Published] = []
    off: Counter[str] = Counter()
    alone = 0
    for number, (amount, currency, is_charged, is_processed) in enumerate(payments):
        name = f"pay_{number}"
        if is_charged:
            sides.append(charge(name, amount=amount, currency=currency))
        if is_processed:
            sides.append(event(name, amount=amount, currency=currency))
        minor = int(amount.scaleb(2))
        off[currency] += minor * (is_charged - is_processed)
        alone += is_charged != is_processed
    found = compared(*sides)
    assert len(found.findings) == alone
    assert {name: int(each.difference.scaleb(2)) for name, each in found.sums.items()} == {
        name: off[name] for name in found.sums
    }
