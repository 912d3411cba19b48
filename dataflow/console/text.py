"""Texts for a terminal: nothing that a record has may move its cursor, and ages are short."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from schemas import money

_UNITS_S = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def plain(text: str) -> str:
    """Return a text with escapes for what is not printable."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def span(seconds: float) -> str:
    """Return a duration in its two largest units, such as `2d 3h`; 0 and less are `0s`."""
    left = max(0, int(seconds))
    for number, (unit, size) in enumerate(_UNITS_S):
        if left >= size:
            rest = _UNITS_S[number + 1 : number + 2]
            more = [f"{left % size // below}{name}" for name, below in rest if left % size // below]
            return " ".join([f"{left // size}{unit}", *more])
    return "0s"


def amount_text(amount: Decimal, currency: str) -> str:
    """Return an amount with the currency's decimals, or with more if it has more."""
    exponent = amount.normalize().as_tuple().exponent
    assert isinstance(exponent, int)  # no amount of ours is NaN or infinite
    return f"{amount:.{max(money.EXPONENTS.get(currency, 0), -exponent)}f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: set[int]) -> Iterator[str]:
    """Yield the lines of a table; the columns in `right` are aligned on their right side."""
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for row in (heads, *rows):
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()
