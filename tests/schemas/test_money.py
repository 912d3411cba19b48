"""Exact amounts, against the decimal arithmetic of the standard library."""

from decimal import Context, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import money

EXACT = Context(prec=500)
TOO_MANY = "must have at most {} decimals in {}"


def decimals(amount: Decimal) -> int:
    """Return how many decimals an amount needs, computed as one would on paper."""
    count = 0
    while amount != amount.to_integral_value():
        amount = EXACT.multiply(amount, Decimal(10))
        count += 1
    return count


@st.composite
def numbers(draw: st.DrawFn) -> bytes:
    """Draw anything the grammar allows, near to the limits and far from them."""
    whole = draw(st.sampled_from([0, 1, 10**12 - 1, 10**12]) | st.integers(1, 99))
    fraction = draw(st.sampled_from(["", ".0", ".10", ".01", ".001", ".0001", ".00010", ".00001"]))
    exponent = draw(st.sampled_from(["", "e0", "E+2", "e-2", "e9", "e-12", "e12", "e99", "e-99"]))
    sign = draw(st.sampled_from(["", "-"]))
    return f"{sign}{whole}{fraction}{exponent}".encode()


@pytest.mark.parametrize(("currency", "exponent"), [("JPY", 0), ("USD", 2), ("KWD", 3), ("CLF", 4)])
def test_currencies_have_0_to_4_decimals(currency: str, exponent: int) -> None:
    assert money.EXPONENTS[currency] == exponent
    assert set(money.EXPONENTS.values()) == {0, 2, 3, 4}


@given(numbers(), st.sampled_from(["JPY", "USD", "KWD", "CLF"]))
@example(b"999999999999.9999", "CLF")
@example(b"0.0000", "CLF")
def test_the_rules_against_decimal(digits: bytes, currency: str) -> None:
    amount, exponent = Decimal(digits.decode()), money.EXPONENTS[currency]
    if amount <= 0:
        expected = "must be greater than 0"
    elif amount >= 10**12:
        expected = "must be less than 10^12"
    elif decimals(amount) > exponent:
        expected = TOO_MANY.format(exponent, currency)
    else:
        expected = None
    assert money.digits_of(digits) == digits
    assert money.broken_rule(digits, currency) == expected


@given(numbers(), st.sampled_from(["JPY", "USD", "KWD", "CLF"]), st.sampled_from([b"", b'"']))
@example(b"1000000000000", "USD", b"")
def test_the_fast_way_takes_nothing_that_breaks_a_rule(
    digits: bytes, currency: str, quote: bytes
) -> None:
    if money.PLAIN[currency].fullmatch(quote + digits + quote):
        assert money.broken_rule(digits, currency) is None


@pytest.mark.parametrize("currency", ["JPY", "USD", "KWD", "CLF"])
def test_the_fast_way_takes_what_is_common(currency: str) -> None:
    exponent = money.EXPONENTS[currency]
    most = b"999999999999." + b"9" * exponent if exponent else b"999999999999"
    least = b"0." + b"0" * (exponent - 1) + b"1" if exponent else b"1"
    for digits in (most, least, b"10", b"10.00", b"1000000"):
        assert money.PLAIN[currency].fullmatch(digits)
        assert money.PLAIN[currency].fullmatch(b'"' + digits + b'"')


@pytest.mark.parametrize(
    ("digits", "currency"),
    [(b"10.00", "JPY"), (b"99.990", "USD"), (b"1.5000000", "KWD"), (b"1.23450", "CLF")],
)
def test_zeros_beyond_the_decimals_are_accepted(digits: bytes, currency: str) -> None:
    assert money.broken_rule(digits, currency) is None


@pytest.mark.parametrize(
    ("digits", "currency"),
    [(b"10.01", "JPY"), (b"99.991", "USD"), (b"1.0001", "KWD"), (b"1.00001", "CLF")],
)
def test_a_digit_beyond_the_decimals_is_not(digits: bytes, currency: str) -> None:
    assert money.broken_rule(digits, currency) == TOO_MANY.format(
        money.EXPONENTS[currency], currency
    )


@pytest.mark.parametrize(
    ("digits", "rule"),
    [
        (b"0.01", None),
        (b"999999999999.99", None),
        (b"9.9999999999999e11", None),
        (b"1000000000000", "must be less than 10^12"),
        (b"1e12", "must be less than 10^12"),
        (b"1e99", "must be less than 10^12"),
        (b"0", "must be greater than 0"),
        (b"0e99", "must be greater than 0"),
        (b"-0.01", "must be greater than 0"),
    ],
)
def test_bounds(digits: bytes, rule: str | None) -> None:
    assert money.broken_rule(digits, "USD") == rule


@pytest.mark.parametrize("digits", [b"1e2", b"1E+2", b"1.0e2", b"1000e-1", b"0.0001e6", b"1" * 40])
def test_exponents_of_two_digits_are_numbers(digits: bytes) -> None:
    assert money.digits_of(digits) == digits
    assert money.digits_of(b'"' + digits + b'"') == digits


@pytest.mark.parametrize(
    "text",
    [
        *(b"1e100", b"1e-100", b"1e999999999", b"1" * 41, b"0." + b"1" * 40, b"NaN", b"Infinity"),
        *(b'"1', b'1"', b'""', b"", b"1.", b".1", b"01", b"+1", b" 1", b"1\n", b"1_0", b"0x1"),
        *(b"\xd9\xa1", b"--1", b"1e", b"1e+", b"1.e1", b'"1"\n'),
    ],
)
def test_values_that_are_no_number(text: bytes) -> None:
    assert money.digits_of(text) is None


@given(numbers().filter(lambda digits: money.broken_rule(digits, "CLF") is None))
def test_the_canonical_spelling_keeps_the_value_and_is_unique(digits: bytes) -> None:
    spelled = money.canonical(digits.decode())
    value = Decimal(digits.decode())
    assert Decimal(spelled) == value
    assert spelled == format(value.normalize(EXACT), "f")
