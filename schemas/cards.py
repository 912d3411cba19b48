r"""Card numbers (PANs) in a text: found by what distinguishes them from other digits, and masked.

A run of digits is masked if all of these hold:

1. it has 13 to 19 digits (ISO/IEC 7812-1), in one piece or in groups as cards print them, with a
   space or a dash between two groups;
2. it begins with a number that a card scheme issues under, and has a length of that scheme;
3. its check digit is right (the Luhn algorithm, annex B of the same standard);
4. it is neither the fraction of a decimal number nor part of a hexadecimal token (a hash, a trace
   id), nor, since no group there fits, of a UUID.

Letters beside it do not save it: they stand there in the track data of a card (`%B4111…^`) and in
escapes (`\n4111…`). Instants since 1970 in milliseconds, microseconds or nanoseconds begin with
numbers of no scheme (until 2040), and survive, as do offsets, which are shorter. An id of random
digits cannot be told from a card for sure. Of those, this share is masked:

    digits    13     14     15     16     17     18     19     other lengths
    masked    1.3 %  0.7 %  0.9 %  3.3 %  1.1 %  1.1 %  2.1 %  none

Every digit becomes a `*`. PCI DSS (3.4.1) would allow to show the first six and the last four; but
with those, and the check digit, 10^5 candidates are left, and nobody here needs them: a reader who
may see the card can look at the record itself.
"""

import re
from collections.abc import Collection

LONGEST = 128
"""More bytes than a card number has with all that is between its digits, in UTF-32 too."""

_CANDIDATE = re.compile(
    # A digit comes first, and then what must not be before it: so the search skips other text fast.
    # A fraction has one or two digits before its point; more of them may be another card number.
    r"[0-9](?<![0-9][0-9])(?<!(?<![0-9])[0-9][.][0-9])(?<!(?<![0-9])[0-9][0-9][.][0-9])"
    r"(?:[0-9]{12,18}(?![0-9])"
    # 4-4-4-4, 4-4-4-4-3, 4-6-5, 4-6-4, 4-3-3-3; and 6-13.
    r"|(?<![A-Fa-f][0-9])[0-9]{3}([ -])[0-9]{3,6}(?:\1[0-9]{1,7}(?![0-9A-Fa-f])){1,3}"
    r"|[0-9]{5}([ -])[0-9]{13}(?![0-9A-Fa-f]))"
)
_MOST_CANDIDATES = 2000
"""Each takes some 10 µs: a record full of digits must not hold up the payments behind it."""
_STARS = str.maketrans("0123456789", "*" * 10)
_FEWEST, _MOST = 13, 19

_SCHEMES: tuple[tuple[str, Collection[int]], ...] = (
    ("4", (13, 16, 19)),  # Visa
    ("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720", (16,)),  # Mastercard
    ("3[47]", (15,)),  # American Express
    ("30[0-5]|3095|3[689]", range(14, 20)),  # Diners Club
    ("35(?:2[89]|[3-8])", range(16, 20)),  # JCB
    ("6011|64[4-9]|65", range(16, 20)),  # Discover
    ("62|81[0-7]", range(16, 20)),  # UnionPay
    ("50|5893|63|67", range(13, 20)),  # Maestro and its local kin, Elo, Verve
    ("60|81|82", (16,)),  # RuPay, Hipercard
    ("220[0-4]", range(16, 20)),  # Mir
    ("8600|9792|9860", (16,)),  # Uzcard, Troy, Humo
)
"""The first digits of each scheme's numbers, and the number of digits they have."""
_BEGINNINGS = {
    length: re.compile("|".join(begins for begins, lengths in _SCHEMES if length in lengths))
    for length in range(_FEWEST, _MOST + 1)
}

_LEFT_OF_TOKEN = re.compile("[0-9A-Za-z]*$")
_TOKEN = re.compile("[0-9A-Za-z]*")
_HEX = re.compile("(?=(?:[0-9]*[A-Fa-f]){2})[0-9A-Fa-f]+")
"""With two letters at least: track data of a card is digits with one D between them."""
_HEX_LENGTHS = {16, 24, 32, 40, 48, 56, 64, 96, 128}
_DOUBLED = str.maketrans("0123456789", "0246813579")


def masked(text: str) -> str:
    """Return the text with a `*` for each digit of each card number; as long as it was.

    Where it has thousands of runs of digits that might be one, all digits of the rest are masked.
    """
    shown, end, at = [], 0, 0
    for _ in range(_MOST_CANDIDATES):
        candidate = _CANDIDATE.search(text, at)
        if candidate is None:
            break
        start = candidate.start()
        length = _length_of_card(candidate)
        if length and not _is_in_hex(text, start, start + length):
            shown += [text[end:start], text[start : start + length].translate(_STARS)]
            at = end = start + length
        else:
            at = start + 1
    else:
        shown += [text[end:at], text[at:].translate(_STARS)]
        end = len(text)
    return "".join([*shown, text[end:]]) if shown else text


def masked_bytes(value: bytes) -> bytes:
    """Return the same for a text in UTF-8, or in another encoding that has the bytes of ASCII.

    Where there are zero bytes it may be UTF-16 or UTF-32, which have them between the digits.
    """
    shown = bytearray(value)
    for width in (1, 2, 4) if 0 in value else (1,):
        for first in range(width):
            # Latin-1 gives each byte a character, and back.
            shown[first::width] = masked(shown[first::width].decode("latin-1")).encode("latin-1")
    return bytes(shown)


def _length_of_card(candidate: re.Match[str]) -> int:
    """Return how many characters of a candidate are a card number; 0 if none is.

    What follows in groups of its own (an expiry date, a security code) need not belong to it.
    """
    text, gap = candidate[0], candidate[1] or candidate[2]
    if gap is None:
        return len(text) if _is_card(text) else 0
    digits, gaps = text.replace(gap, ""), text.count(gap)
    end = len(text)
    while end - gaps >= _FEWEST:
        if _is_card(digits[: end - gaps]):
            return end
        end, gaps = text.rfind(gap, 0, end), gaps - 1
    return 0


def _is_card(digits: str) -> bool:
    beginnings = _BEGINNINGS.get(len(digits))
    return beginnings is not None and bool(beginnings.match(digits)) and _passes_luhn(digits)


def _passes_luhn(digits: str) -> bool:
    """Return whether the check digit is right; it is, by chance, for one run of digits in ten."""
    doubled = digits[-2::-2].translate(_DOUBLED)
    return sum(map(int, digits[-1::-2] + doubled)) % 10 == 0


def _is_in_hex(text: str, start: int, end: int) -> bool:
    """Return whether the text around a card number makes a hexadecimal token of it."""
    longest = max(_HEX_LENGTHS)
    before = _LEFT_OF_TOKEN.search(text[max(0, start - longest) : start])
    after = _TOKEN.match(text[end : end + longest])
    assert before is not None  # they match nothing, too
    assert after is not None
    token = before[0] + text[start:end] + after[0]
    return len(token) in _HEX_LENGTHS and _HEX.fullmatch(token) is not None
