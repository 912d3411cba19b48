"""The numbers that are masked as card numbers, and how many others are by accident."""

import random
import uuid
from hashlib import md5, sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import cards
from schemas.cards import masked, masked_bytes
from tests.support.card_numbers import ISSUED, card_numbers, no_digits, with_check_digit

VISA = "4111111111111111"
STARS = "*" * 16


@pytest.mark.parametrize("number", ISSUED)
def test_a_number_of_every_scheme_is_masked(number: str) -> None:
    assert masked(number) == "*" * len(number)


@given(card_numbers(), no_digits, no_digits)
def test_a_card_number_is_masked_wherever_it_stands(card: str, before: str, after: str) -> None:
    assert masked(before + card + after) == before + "*" * len(card) + after


@given(card_numbers(), st.integers(0, 9))
def test_a_wrong_check_digit_is_left_readable(card: str, digit: int) -> None:
    wrong = card[:-1] + str(digit)
    assert masked(wrong) == ("*" * len(card) if wrong == card else wrong)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("4111 1111 1111 1111", "**** **** **** ****"),
        ("4111-1111-1111-1111", "****-****-****-****"),
        ("3782 822463 10005", "**** ****** *****"),
        ("3056 930902 5904", "**** ****** ****"),
        ("4222 222 222 222", "**** *** *** ***"),
        ("4000 0000 0000 0000 006", "**** **** **** **** ***"),
        ("621234 5678900000003", "****** *************"),
        # with what people write beside it
        ("4111 1111 1111 1111 12/29", "**** **** **** **** 12/29"),
        ("4111 1111 1111 1111 123", "**** **** **** **** 123"),
        ("2026 4111 1111 1111 1111", "2026 **** **** **** ****"),
        ("4000 4111 1111 1111 1111", "4000 **** **** **** ****"),
        (f"00 {VISA}", f"00 {STARS}"),
        (f"{VISA} {VISA}", f"{STARS} {STARS}"),
        (f"{VISA}.", f"{STARS}."),
        (f"{VISA}.{VISA}", f"{STARS}.{STARS}"),
        # with what machines write beside it
        (f"pay_{VISA}", f"pay_{STARS}"),
        (f'{{"pan":{VISA},"a":1}}', f'{{"pan":{STARS},"a":1}}'),
        (f'"card\\n{VISA}\\n"', f'"card\\n{STARS}\\n"'),
        (f"%B{VISA}^DOE/J^2512101", f"%B{STARS}^DOE/J^2512101"),
        (f";{VISA}=2512101?", f";{STARS}=2512101?"),
        (f"{VISA}D2512101", f"{STARS}D2512101"),
        (f"{VISA}D25121010000012300000F", f"{STARS}D25121010000012300000F"),
    ],
)
def test_card_numbers_as_they_are_written(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        with_check_digit("411111111111111111") + "6",  # 20 digits
        with_check_digit("41111111111"),  # 12 digits
        with_check_digit("4111111111111"),  # Visa has no number of 14 digits
        with_check_digit("111111111111111"),  # no scheme begins with 1, 7 or 9 (but for a few)
        with_check_digit("777777777777777"),
        "0." + VISA,
        "-12." + VISA,
        "4111  1111  1111  1111",
        "offset 1234567, 100000 records",
        "2026-03-01T12:00:00.123456Z",
        "127.0.0.1:9092",
        f"a{VISA}bcdefab",  # 24 hexadecimal digits
        "4111111111111111aaaaaaaabbbbbbbb",  # 32
        "ab3d4111-1111-1111-1111-4111111aaaaa",
        "00004111-1111-1111-1111-411111111111",
    ],
)
def test_other_digits_are_left_readable(text: str) -> None:
    assert masked(text) == text


@pytest.mark.parametrize("unit", [10**3, 10**6, 10**9], ids=["ms", "us", "ns"])
def test_instants_are_left_readable(unit: int) -> None:
    """One in ten of them has a right check digit."""
    chance = random.Random(1)
    for _ in range(2000):
        instant = str(
            chance.randrange(1_000_000_000, 2_200_000_000) * unit + chance.randrange(unit)
        )
        assert masked(instant) == instant


@pytest.mark.parametrize(
    ("length", "percent"),
    [
        *((12, 0), (13, 1.3), (14, 0.7), (15, 0.9), (16, 3.3), (17, 1.1), (18, 1.1), (19, 2.1)),
        (20, 0),
    ],
)
def test_the_share_of_masked_ids_of_random_digits(length: int, percent: float) -> None:
    """The table in the module; it was 10 % when only the check digit was looked at."""
    chance = random.Random(1)
    ids = [f"{chance.randrange(10**length):0{length}}" for _ in range(20_000)]
    share = 100 * sum(masked(each) != each for each in ids) / len(ids)
    assert share == pytest.approx(percent, abs=0.25)


def test_no_hash_and_no_uuid_is_masked() -> None:
    for n in range(20_000):
        text = str(n).encode()
        digest = md5(text, usedforsecurity=False).digest()
        tokens = (digest.hex(), sha256(text).hexdigest(), str(uuid.UUID(bytes=digest, version=4)))
        for token in tokens:
            assert masked(token) == token


@given(st.text() | st.lists(card_numbers() | st.text("0123456789 -.aD")).map("".join))
@example("1 4111 1111 1111 1111")
def test_masking_changes_digits_to_stars_and_nothing_else(text: str) -> None:
    shown = masked(text)
    assert len(shown) == len(text)
    for before, after in zip(text, shown, strict=True):
        assert after == before or (before.isascii() and before.isdigit() and after == "*")
    assert masked(shown) == shown


class TestBytes:
    @given(card_numbers(), st.binary().map(lambda some: bytes(b for b in some if b > 127)))
    def test_bytes_that_are_not_utf8_are_masked_too(self, card: str, around: bytes) -> None:
        value = around + card.encode() + around
        assert masked_bytes(value) == around + b"*" * len(card) + around

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
    def test_other_encodings_are_masked_too(self, encoding: str) -> None:
        text = '{"card":"%s"}'
        assert masked_bytes((text % VISA).encode(encoding)) == (text % STARS).encode(encoding)

    @given(st.binary())
    def test_other_bytes_stay_as_they_are(self, value: bytes) -> None:
        assert masked_bytes(value) == value

    def test_no_way_of_writing_a_card_number_is_longer_than_the_longest(self) -> None:
        assert len("4000 0000 0000 0000 006".encode("utf-32-le")) <= cards.LONGEST


@pytest.mark.parametrize(
    "text",
    ["4" * 10**6, "4111 " * 10**5, "41111111111111 " * 10**5, f"a{VISA}" * 10**5],
    ids=["digits", "groups", "runs", "letters"],
)
def test_a_megabyte_made_to_be_slow_is_not(text: str) -> None:
    """The time grows with the size, not with its square: else this would take an hour."""
    assert len(masked(text)) == len(text)


def test_the_first_of_thousands_of_runs_are_examined_and_the_rest_is_masked() -> None:
    """To look at all of them took seconds for a record: some of those, and no epoch would end."""
    runs = [f"{n:013d}" for n in range(5000)]
    shown = masked(",".join([*runs, "4111111111111111", "a1"])).split(",")
    assert shown[:1000] == runs[:1000]
    assert set(shown[3000:-2]) == {"*" * 13}
    assert shown[-2:] == ["*" * 16, "a*"]
