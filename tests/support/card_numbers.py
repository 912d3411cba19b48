"""Card numbers of every scheme, with the check digit that makes them such."""

from hypothesis import strategies as st

ISSUED = [
    # the numbers that the schemes publish for tests
    "4222222222222",
    "4111111111111111",
    "4000000000000000006",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "36227206271667",
    "6011111111111117",
    "6500000000000002",
    "3566002020360505",
    "6212345678901232",
    "6212345678900000003",
    "5018000000000009",
    "6304000000000000",
    "6759649826438453",
    "2200770212727079",
    "8171999900000000021",
]
BEGINNINGS = [
    *(("4", 13), ("4", 16), ("4", 19), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16)),
    *(("34", 15), ("37", 15), ("36", 14), ("305", 16), ("3528", 16), ("3589", 19), ("6011", 16)),
    *(("644", 16), ("65", 19), ("62", 17), ("62", 18), ("810", 16), ("5018", 13), ("6304", 19)),
    *(("60", 16), ("82", 16), ("2204", 16), ("9792", 16)),
]


def with_check_digit(digits: str) -> str:
    """Append the digit that the Luhn algorithm asks for."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 - place % 2)
        total += value - 9 if value > 9 else value
    return digits + str(-total % 10)


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    """Draw any number that a scheme may issue."""
    beginning, length = draw(st.sampled_from(BEGINNINGS))
    missing = length - 1 - len(beginning)
    rest = draw(st.text("0123456789", min_size=missing, max_size=missing))
    return with_check_digit(beginning + rest)


no_digits = st.text(
    st.characters(exclude_categories=["Nd", "Cs"], exclude_characters="abcdefABCDEF")
)
"""Characters that may stand beside a card number; no letters that would make a hexadecimal token of
it."""
