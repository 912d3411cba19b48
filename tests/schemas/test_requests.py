"""The identity of a payment, and the equality of two requests."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import money
from schemas.requests import IDENTITY_BYTES, KEY_BYTES, PaymentRequest, key_of
from tests.schemas.json_requests import (
    accepted,
    amounts,
    currencies,
    spellings,
    texts,
    valid_requests,
    written,
)


def key(request: PaymentRequest) -> bytes:
    return request.identity()[:KEY_BYTES]


def fingerprint(**changes: object) -> bytes:
    return accepted(written(**changes)).identity()[KEY_BYTES:]


def content(request: PaymentRequest) -> tuple[object, ...]:
    return request.user_id, request.amount, request.currency, request.payment_method


def test_an_identity_is_pinned() -> None:
    """It is compared with those of older versions, out of the recovery store: never change it."""
    assert accepted(written()).identity().hex() == (
        "4cfcc8515ee0c4df228f99a9f426db7d"  # the paymentId
        "3fb59a665a5e7e0b"  # the content
    )


@given(valid_requests(), texts)
def test_the_key_depends_on_the_payment_id_alone(
    sent: tuple[bytes, dict[str, object]], payment_id: str
) -> None:
    request = accepted(sent[0])
    assert key(request) == key_of(request.payment_id)
    assert (key_of(payment_id) == key(request)) == (payment_id == request.payment_id)
    assert len(request.identity()) == IDENTITY_BYTES


few = st.sampled_from(["a", "b", "ab", "1:a", "a1"])
some_amounts = st.sampled_from([b"1", b"1.0", b"10", b"1e1", b"1.01", b'"1"', b"0.01", b"0.1"])


@given(
    *[st.fixed_dictionaries({"userId": few, "paymentMethod": few, "amount": some_amounts})] * 2,
    *[st.sampled_from(["USD", "EUR"])] * 2,
)
def test_equal_content_has_an_equal_fingerprint_and_no_other_has(
    one: dict[str, object], other: dict[str, object], currency: str, other_currency: str
) -> None:
    first = accepted(written(**one, currency=currency))
    second = accepted(written(**other, currency=other_currency))
    same = content(first) == content(second)
    assert (first.identity() == second.identity()) == same


@given(st.data(), currencies)
def test_amounts_are_compared_by_value(data: st.DataObject, currency: str) -> None:
    minor_units = data.draw(st.integers(1, 10**12 - 2))
    prints = {
        fingerprint(amount=written_so, currency=currency)
        for digits in spellings(minor_units, currency)
        for written_so in (digits, b'"%b"' % digits)
    }
    assert len(prints) == 1
    assert fingerprint(amount=spellings(minor_units + 1, currency)[0], currency=currency) not in (
        prints
    )


@pytest.mark.parametrize(
    ("amount", "same"), [(b"99.990", b"99.99"), (b"1e2", b"100"), (b"100.00", b'"1.0E+2"')]
)
def test_amounts_that_are_the_same(amount: bytes, same: bytes) -> None:
    assert fingerprint(amount=amount) == fingerprint(amount=same)


@pytest.mark.parametrize(("amount", "other"), [(b"10", b"1"), (b"100", b"1"), (b"0.1", b"0.01")])
def test_zeros_that_count(amount: bytes, other: bytes) -> None:
    assert fingerprint(amount=amount) != fingerprint(amount=other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"userId": "ab", "paymentMethod": "c"}, {"userId": "a", "paymentMethod": "bc"}),
        ({"userId": "a", "paymentMethod": "b1:"}, {"userId": "ab1:", "paymentMethod": "x"}),
        ({"userId": "1:a", "paymentMethod": "b"}, {"userId": "a", "paymentMethod": "1:b"}),
        ({"paymentMethod": "cUSD", "currency": "EUR"}, {"paymentMethod": "c", "currency": "USD"}),
    ],
)
def test_one_field_is_not_taken_for_another(
    one: dict[str, object], other: dict[str, object]
) -> None:
    assert fingerprint(**one) != fingerprint(**other)


def test_metadata_and_unknown_fields_do_not_count() -> None:
    assert fingerprint(metadata={"try": 1}, comment="x") == fingerprint(metadata={"try": 2})


@given(st.data(), currencies)
def test_minor_units_are_exact(data: st.DataObject, currency: str) -> None:
    digits = data.draw(amounts(currency))
    request = accepted(written(amount=digits, currency=currency))
    assert request.minor_units == Decimal(digits.decode()) * 10 ** money.EXPONENTS[currency]
