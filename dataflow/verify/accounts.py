"""Money: what was asked for, and what was decided, exactly, by currency."""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataflow.verify.content import CURRENCIES
from dataflow.verify.rows import Rows
from schemas import money

_HALF = 32


class Account(NamedTuple):
    """One currency, in its major units."""

    currency: str
    requested: Decimal
    """By the first request for each paymentId, which the audit trail identifies."""
    processed: Decimal
    failed: Decimal

    @property
    def difference(self) -> Decimal:
        """The amount that was requested, but not decided."""
        return self.requested - self.processed - self.failed


class CurrencySums:
    """The sums of all currencies, in minor units."""

    def __init__(self) -> None:
        self._requested: defaultdict[int, int] = defaultdict(int)
        self._decided: dict[int, defaultdict[int, int]] = {0: defaultdict(int), 1: defaultdict(int)}

    def request(self, requests: Rows) -> None:
        """Add rows of first requests."""
        _add(self._requested, requests)

    def decide(self, outcomes: Rows) -> None:
        """Add rows of outcomes of valid requests."""
        for topic, sums in self._decided.items():
            _add(sums, outcomes[outcomes["topic"] == topic])

    def __iter__(self) -> Iterator[Account]:
        """Yield the accounts of the currencies in which there was anything, by their codes."""
        processed, failed = self._decided.values()
        for number in sorted({*self._requested, *processed, *failed}):
            exponent = money.EXPONENTS[CURRENCIES[number]]
            sums = (sums.get(number, 0) for sums in (self._requested, processed, failed))
            yield Account(CURRENCIES[number], *(_major(each, exponent) for each in sums))


def _add(sums: defaultdict[int, int], table: Rows) -> None:
    for currency in np.unique(table["currency"]).tolist():
        minor: NDArray[Any] = table["minor"][table["currency"] == currency]
        # In halves: 64 bits would overflow.
        high, low = int((minor >> _HALF).sum()), int((minor & (2**_HALF - 1)).sum())
        sums[currency] += (high << _HALF) + low


def _major(minor: int, exponent: int) -> Decimal:
    """Convert exactly at any length, unlike `Decimal.scaleb`, which rounds to its context."""
    digits = tuple(map(int, str(abs(minor))))
    return Decimal((int(minor < 0), digits, -exponent))
