"""The minor units of a provider: a table for each, since none of them has those of ISO 4217.

An amount that cannot be written exactly is never rounded: it has no minor units at all.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple


class Minor(NamedTuple):
    """The minor units of one currency."""

    decimals: int
    """The power of ten that separates them from the major unit."""
    used: int
    """The decimals that may be other than zero: fewer, where the provider always demands zeros."""


MinorUnits = Mapping[str, Minor]
"""By currency; one that is missing is not taken."""


def table(**groups: str) -> dict[str, Minor]:
    """Return a table from groups such as `three_two="BHD KWD"`: decimals, and those of use."""
    digits = {"none": 0, "two": 2, "three": 3}
    found = {}
    for name, currencies in groups.items():
        decimals, _, used = name.partition("_")
        minor = Minor(digits[decimals], digits[used or decimals])
        found.update(dict.fromkeys(currencies.split(), minor))
    return found


def can_be_written(amount: Decimal, currency: str, decimals: Mapping[str, int]) -> bool:
    """Return whether a currency is there, and has as many decimals as an amount needs."""
    places = decimals.get(currency)
    if places is None:
        return False
    scaled = amount.scaleb(places)
    return scaled == scaled.to_integral_value()


def to_minor(amount: Decimal, currency: str, units: MinorUnits) -> int | None:
    """Return an amount in minor units; None if the provider cannot take exactly that."""
    minor = units.get(currency)
    if minor is None:
        return None
    used = amount.scaleb(minor.used)
    if used != used.to_integral_value():
        return None
    return int(used) * int(10 ** (minor.decimals - minor.used))


def to_major(number: int, currency: str, units: MinorUnits) -> Decimal:
    """Return the amount that so many minor units are."""
    return Decimal(number).scaleb(-units[currency].decimals)


STRIPE = table(
    none="BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF",
    two_none="ISK UGX",
    three_two="BHD JOD KWD OMR TND",
    two="AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BWP BYN BZD "
    "CAD CDF CHF CNY COP CRC CVE CZK DKK DOP DZD EGP ETB EUR FJD FKP GBP GEL GIP GMD GTQ GYD HKD "
    "HNL HTG HUF IDR ILS INR JMD KES KGS KHR KYD KZT LAK LBP LKR LRD LSL MAD MDL MKD MMK MNT MOP "
    "MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR "
    "SBD SCR SEK SGD SHP SLE SOS SRD STD SZL THB TJS TOP TRY TTD TWD TZS UAH USD UYU UZS WST XCD "
    "XCG YER ZAR ZMW",
)
"""Stripe's. ISK and UGX have two decimals that are always 00; the last of three is always 0."""
