"""The provider's list as a file, for any provider that can export one: CSV, or JSON Lines.

Fields: `paymentId`, `reference`, `amount` (in major units), `currency`, and, if there are any,
`status` (approved, declined, pending; without it all are approved) and `createdAt` (RFC 3339). A
file with other names is read with `names`.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from dataflow.gateways.listing import ListedPayment, ListedState, ListError
from schemas import pending
from schemas.money import EXPONENTS

FIELDS = ("paymentId", "reference", "amount", "currency", "status", "createdAt")
_STATES = tuple(each.value for each in ListedState)
_REQUIRED = ("paymentId", "amount", "currency")


def read(path: Path, names: Mapping[str, str]) -> Iterator[ListedPayment]:
    """Yield the payments of a file.

    Args:
        path: A file; `.csv`, or else JSON Lines.
        names: The file's names of fields, where they differ.

    Raises:
        ListError: it is none; the text names the line.
        OSError: it cannot be read.
    """
    is_csv = path.suffix.lower() == ".csv"
    with path.open(encoding="utf-8-sig", newline="" if is_csv else None) as file:
        rows = csv.DictReader(file) if is_csv else _objects(path, file)
        done = 0
        try:
            for row in rows:
                yield _listed(row, names)
                done += 1
        except UnicodeDecodeError:
            raise ListError(f"{path}: the file is not in UTF-8") from None
        except (ValueError, csv.Error) as error:
            raise ListError(f"{path}: payment {done + 1}: {error}") from None


def _objects(path: Path, lines: Iterator[str]) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            # An amount that is a number keeps its digits.
            found = json.loads(line, parse_float=Decimal, parse_int=Decimal)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ListError(f"{path}: line {number} is no JSON object")
        yield found


def _listed(row: Mapping[str, Any], names: Mapping[str, str]) -> ListedPayment:
    """Return a payment; `ValueError`, with the reason, if it is none."""

    def text(name: str) -> str:
        found = row.get(names.get(name, name))
        if name in _REQUIRED and names.get(name, name) not in row:
            raise ValueError(f"there is no {names.get(name, name)!r} (--column)")
        return "" if found is None else str(found).strip()

    currency, state, created_at = text("currency").upper(), text("status"), text("createdAt")
    if currency not in EXPONENTS:
        raise ValueError(f"expected a currency of ISO 4217, got {currency!r}")
    try:
        amount = Decimal(text("amount"))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite():
        raise ValueError(f"expected an amount such as 99.99, got {text('amount')!r}")
    if state and state.lower() not in _STATES:
        raise ValueError(f"expected a status of {', '.join(_STATES)}, got {state!r}")
    return ListedPayment(
        payment_id=text("paymentId") or None,
        reference=text("reference"),
        amount=amount,
        currency=currency,
        state=ListedState(state.lower()) if state else ListedState.APPROVED,
        created_s=pending.seconds(created_at) if created_at else None,
    )
