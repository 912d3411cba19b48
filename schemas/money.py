"""Exact amounts: the JSON number grammar, bounded, checked against the currency's decimals.

Currencies and their number of decimals come from ISO 4217 (the `iso4217` package). An amount
keeps the digits it was written with; zeros beyond the currency's decimals change nothing and are
accepted (JPY 10.00).
"""

import re
from decimal import Decimal

from iso4217 import Currency

MAX_INTEGER_DIGITS = 12
"""An amount is below 10**12 major units: a million times the largest real card payment."""

EXPONENTS: dict[str, int] = {
    currency.code: currency.exponent for currency in Currency if currency.exponent is not None
}
"""Decimals of each payable currency (ISO 4217 gives none to XAU, XXX, ...)."""

# RFC 8259, section 6, with bounds that keep every later step cheap: no exponent over 99.
_NUMBER = re.compile(
    rb"(?P<quote>\"?)(?P<digits>-?(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{1,39})?(?:[eE][+-]?[0-9]{1,2})?)"
    rb"(?P=quote)"
)


def _plain(exponent: int) -> re.Pattern[bytes]:
    """Return the pattern of positive amounts without an E, in range, with `exponent` decimals."""
    fraction = rb"(?:\.[0-9]{1,%d}0{0,9})?" % exponent if exponent else rb"(?:\.0{1,9})?"
    whole = rb"(?:0|[1-9][0-9]{0,%d})" % (MAX_INTEGER_DIGITS - 1)
    return re.compile(rb'("?)(?=[0.]*[1-9])(' + whole + fraction + rb")\1")


PLAIN: dict[str, re.Pattern[bytes]] = {code: _plain(n) for code, n in EXPONENTS.items()}
"""The fast path: an amount that fully matches its currency's pattern is valid."""


def digits_of(text: bytes) -> bytes | None:
    """Return an amount's digits as written in JSON (number or string); None if it is not one."""
    match = _NUMBER.fullmatch(text)
    return match["digits"] if match else None


def broken_rule(digits: bytes, currency: str | None) -> str | None:
    """Return the rule that `digits` (from `digits_of`) breaks, in words; None when it breaks none.

    Without a known currency the rule about decimals is not judged.
    """
    amount = Decimal(digits.decode())
    if amount <= 0:
        return "must be greater than 0"
    if amount >= 10**MAX_INTEGER_DIGITS:
        return f"must be less than 10^{MAX_INTEGER_DIGITS}"
    if currency is None:
        return None
    exponent = EXPONENTS[currency]
    if -_shortest_exponent(amount) > exponent:
        return f"must have at most {exponent} decimals in {currency}"
    return None


def _shortest_exponent(amount: Decimal) -> int:
    """Return the exponent of `amount` without trailing zeros, exact at any length."""
    _, digits, exponent = amount.as_tuple()
    assert isinstance(exponent, int)  # the grammar has no NaN and no Infinity
    trailing = len(digits) - len("".join(map(str, digits)).rstrip("0"))
    return exponent + trailing


def canonical(digits: str) -> str:
    """Return one spelling for equal amounts: 99.990 and 99.99, 1e2 and 100."""
    if digits.isdigit():
        return digits
    if "e" in digits or "E" in digits:
        digits = format(Decimal(digits), "f")
    if digits[-1] != "0" or "." not in digits:
        return digits  # most of them, without another call
    return digits.rstrip("0").rstrip(".")
