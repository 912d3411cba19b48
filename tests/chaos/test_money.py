"""The provider's book against the topics: each column of the comparison can be other than 0."""

from decimal import Decimal
from typing import Any

import pytest

from dataflow.fake_provider.book import (
    CANCELED,
    DECLINED,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
    Payment,
)
from schemas.requests import PaymentRequest
from tests.chaos import money
from tests.chaos.money import compare
from tests.support.flow_process import request
from tests.support.invariants import Place, requests_in

FIRST, SECOND, INVALID = (0, 0), (1, 0), (2, 0)
REQUESTS: dict[Place, PaymentRequest] = requests_in(
    {
        FIRST: request("pay-1", "10.00", userId="cus_1", paymentMethod="pm_card"),
        SECOND: request("pay-1", "20.00", userId="cus_1", paymentMethod="pm_card"),
        INVALID: request("bad-1", "-1"),
    }
)


def line(payment_id: str = "pay-1", **changes: Any) -> Payment:
    """Return a line of the book: the charge of the first record, or what differs from it."""
    fields = {
        "id": "ch_1",
        "idempotency_key": "key",
        "payment_id": payment_id,
        "customer": "cus_1",
        "method": "pm_card",
        "amount": 1000,
        "currency": "USD",
        "status": SUCCEEDED,
        "created_s": 0.0,
    }
    return Payment(**(fields | changes))  # type: ignore[arg-type]


def source(place: Place) -> dict[str, Any]:
    return {"source": {"partition": Decimal(place[0]), "offset": Decimal(place[1])}}


def processed(**changes: Any) -> dict[str, Any]:
    """Return the event of the first record."""
    return {
        "eventType": "payment.processed",
        "paymentId": "pay-1",
        "userId": "cus_1",
        "amount": Decimal("10.00"),
        "currency": "USD",
        "paymentMethod": "pm_card",
        "gatewayReference": "ch_1",
        **source(FIRST),
        **changes,
    }


def failed(code: str = "declined", **changes: Any) -> dict[str, Any]:
    return processed(eventType="payment.failed", error={"code": code}, **changes)


def waits(state: str = "unresolved") -> dict[Place, dict[str, Any]]:
    entry = {"paymentId": "pay-1", "state": state, "attempts": Decimal(3), "reason": "timeout"}
    return {FIRST: entry | source(FIRST)}


def kinds(
    book: list[Payment],
    outcomes: list[dict[str, Any]],
    pending: dict[Place, dict[str, Any]] | None = None,
) -> list[str]:
    found = compare(book, REQUESTS, outcomes, pending or {})
    return [each.partition(":")[0] for each in found.problems]


@pytest.mark.parametrize(
    ("book", "outcomes", "pending"),
    [
        ([line()], [processed()], {}),
        ([line(currency="usd")], [processed()], {}),
        ([line(status=DECLINED)], [failed()], {}),
        ([line(status=CANCELED)], [failed("authentication_required")], {}),
        ([], [failed("method_not_supported")], {}),
        ([], [], waits()),
        ([line(status=PROCESSING)], [], waits("pending")),
        ([line(status=REQUIRES_ACTION)], [], waits("pending")),
        # Without an outcome it is lost, which is another check's.
        ([], [], {}),
        ([line()], [processed(), failed(**source(INVALID), paymentId="bad-1")], {}),
    ],
)
def test_books_that_agree_with_the_topics(
    book: list[Payment], outcomes: list[dict[str, Any]], pending: dict[Place, dict[str, Any]]
) -> None:
    assert kinds(book, outcomes, pending) == []


WRONG: dict[str, tuple[list[Payment], list[dict[str, Any]], dict[Place, dict[str, Any]]]] = {
    "charged twice": ([line(), line(id="ch_2")], [processed()], {}),
    "charged otherwise": ([line(amount=1001)], [processed()], {}),
    "charged for a repeat": ([line(amount=2000)], [processed()], {}),
    "charged for no request": ([line(), line("bad-1")], [processed()], {}),
    "charged, not published": ([line()], [], {}),
    "charged, published as failed": ([line()], [failed()], {}),
    "processed, never charged": ([], [processed()], {}),
    "failed, never declined": ([], [failed()], {}),
    "another reference": ([line()], [processed(gatewayReference="ch_2")], {}),
    "waits, though decided": ([line()], [], waits()),
    "waits for nothing": ([], [], waits("pending")),
}


def test_every_column_has_a_book_that_is_wrong() -> None:
    assert set(WRONG) == set(money.COLUMNS)


@pytest.mark.parametrize("column", WRONG)
def test_a_wrong_book_shows_in_its_column_and_in_no_other(column: str) -> None:
    assert kinds(*WRONG[column]) == [column]


@pytest.mark.parametrize(
    ("book", "outcomes", "pending", "column"),
    [
        # A second execution counts even if neither of them, or only one, moved money.
        ([line(status=DECLINED), line(id="ch_2")], [processed(gatewayReference="ch_2")], {}, 0),
        ([line(status=DECLINED), line(status=DECLINED, id="ch_2")], [failed()], {}, 0),
        ([line(currency="EUR")], [processed()], {}, 1),
        ([line(customer="cus_2")], [processed()], {}, 1),
        ([line(method="pm_2")], [processed()], {}, 1),
        # Of a payment that waits, too.
        ([line(status=PROCESSING, id="ch_2"), line(status=PROCESSING)], [], waits("pending"), 0),
        # To be declined by us while the provider still works on it may be to lose money.
        ([line(status=PROCESSING)], [failed()], {}, 7),
        ([line(status=PROCESSING)], [failed("method_not_supported")], {}, 7),
        ([line(status=DECLINED)], [processed()], {}, 6),
        ([line(status=DECLINED)], [], waits(), 9),
    ],
)
def test_wrong_books_of_other_kinds(
    book: list[Payment],
    outcomes: list[dict[str, Any]],
    pending: dict[Place, dict[str, Any]],
    column: int,
) -> None:
    assert kinds(book, outcomes, pending) == [list(money.COLUMNS)[column]]


def test_the_charge_of_a_payment_that_waits_has_its_content() -> None:
    """It is decided at the provider besides."""
    found = kinds([line(amount=5)], [], waits())
    assert found == ["charged otherwise", "waits, though decided"]


def test_the_figures_are_counted() -> None:
    found = compare([line(), line("pay-2", status=DECLINED)], REQUESTS, [], waits())
    assert {name: found.counts[name] for name in money.FIGURES} == {
        "charges": 1,
        "declines": 1,
        "unresolved": 1,
        "pending at the provider": 0,
    }
    found = compare([line(status=PROCESSING)], REQUESTS, [], waits("pending"))
    assert found.counts["pending at the provider"] == 1


def test_minor_units_are_those_of_the_currency() -> None:
    yen = requests_in({FIRST: request("pay-1", "10", "JPY", userId="c", paymentMethod="m")})
    event = processed(amount=Decimal(10), currency="JPY", userId="c", paymentMethod="m")
    charge = line(amount=10, currency="jpy", customer="c", method="m")
    assert compare([charge], yen, [event], {}).problems == []
    [problem] = compare([line(amount=1000, currency="jpy")], yen, [event], {}).problems
    assert problem.startswith("charged otherwise")
