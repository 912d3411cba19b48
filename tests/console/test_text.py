"""Texts for a terminal."""

from decimal import Decimal

import pytest

from dataflow.console.text import amount_text, plain, span, table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0.9, "0s"),
        (59, "59s"),
        (60, "1m"),
        (3_661, "1h 1m"),
        (86_400, "1d"),
        (86_400 * 3 + 7_200 + 59, "3d 2h"),
    ],
)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("100", "USD", "100.00"),
        ("99.990", "USD", "99.99"),
        ("0.001", "USD", "0.001"),
        ("1E+3", "JPY", "1000"),
        ("1.5", "KWD", "1.500"),
        ("-2", "EUR", "-2.00"),
        ("0.00", "EUR", "0.00"),
        ("3", "of another provider", "3"),
    ],
)
def test_an_amount_is_exact(amount: str, currency: str, text: str) -> None:
    assert amount_text(Decimal(amount), currency) == text


def test_a_character_that_is_not_printable_is_escaped() -> None:
    assert plain("a\x1b\nü") == "a\\x1b\\nü"


def test_a_table_is_aligned() -> None:
    assert list(table(["A", "N"], [["x", "1"], ["yyy", "22"]], {1})) == [
        "A     N",
        "x     1",
        "yyy  22",
    ]
