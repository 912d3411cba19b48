"""Payment requests as they are written: as JSON, with any byte in any place."""

from collections.abc import Iterable

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from schemas import money
from schemas.parsing import parse
from schemas.requests import PaymentRequest, Rejected

MAX_BYTES = 1_000_000
FIELDS: dict[str, object] = {
    "paymentId": "pay_123",
    "userId": "user_456",
    "amount": Raw(b"99.99"),
    "currency": "USD",
    "paymentMethod": "credit_card",
}


def written(**changes: object) -> bytes:
    """Return a request; bytes stand for JSON to be written as it is, UNSET leaves a field out."""
    fields = {
        name: Raw(value) if isinstance(value, bytes) else value
        for name, value in (FIELDS | changes).items()
        if value is not UNSET
    }
    return msgspec.json.encode(fields)


def in_order(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """Return an object with these members, of which some may have the same key."""
    members = [msgspec.json.encode(key) + b":" + value for key, value in pairs]
    return b"{" + b",".join(members) + b"}"


def accepted(value: bytes) -> PaymentRequest:
    request = parse(value, MAX_BYTES)
    assert isinstance(request, PaymentRequest), request
    return request


def refused(value: bytes | None, max_bytes: int = MAX_BYTES) -> Rejected:
    rejected = parse(value, max_bytes)
    assert isinstance(rejected, Rejected), rejected
    return rejected


# ---- strategies ----

texts = st.text(min_size=1, max_size=20) | st.text(min_size=250, max_size=255)
currencies = st.sampled_from(sorted(money.EXPONENTS))


def spellings(minor_units: int, currency: str) -> list[bytes]:
    """Return a few of the ways to write one amount."""
    exponent = money.EXPONENTS[currency]
    whole, fraction = divmod(minor_units, 10**exponent)
    short = f"{whole}.{fraction:0{exponent}}".rstrip("0").rstrip(".") if fraction else f"{whole}"
    padded = short + "000" if "." in short else short + ".000"
    scaled = [f"{minor_units}e-{exponent}", f"{minor_units}0E-{exponent + 1:02}", f"{short}e0"]
    return [spelling.encode() for spelling in (short, padded, *scaled, f"{padded}E+0")]


@st.composite
def amounts(draw: st.DrawFn, currency: str) -> bytes:
    """Draw the digits of a valid amount."""
    top = 10 ** (money.MAX_INTEGER_DIGITS + money.EXPONENTS[currency]) - 1
    return draw(st.sampled_from(spellings(draw(st.integers(1, top)), currency)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@st.composite
def valid_requests(draw: st.DrawFn) -> tuple[bytes, dict[str, object]]:
    """Draw a valid request, and its fields; `amount` as the digits it is written with."""
    currency = draw(currencies)
    fields: dict[str, object] = {
        "paymentId": draw(texts),
        "userId": draw(texts),
        "amount": draw(amounts(currency)),
        "currency": currency,
        "paymentMethod": draw(texts),
    }
    digits = fields["amount"]
    assert isinstance(digits, bytes)
    members = dict(fields) | {"amount": Raw(draw(st.sampled_from([digits, b'"%b"' % digits])))}
    if draw(st.booleans()):
        members["metadata"] = draw(st.dictionaries(st.text(max_size=5), json_values))
    unknown = draw(st.dictionaries(st.text(max_size=12), json_values, max_size=2))
    pairs = draw(st.permutations([*(members | unknown | members).items()]))
    return in_order((key, msgspec.json.encode(value)) for key, value in pairs), fields


_ODD_VALUES = [
    *(b"null", b"true", b"[]", b"{}", b'""', b'"x"', b'"' + b"x" * 256 + b'"', b"1", b"-1", b"0"),
    *(b"1.5", b"1.234", b"1e2", b'"1e-2"', b"1e-9", b"1e12", b"999999999999.99", b'"01"', b'" 1"'),
    *(b'"USD"', b'"usd"', b'"JPY"', b'"XAU"', b'"KWD"', b'"1.000"', b'"\\u0031"', b'{"a":{}}'),
    *(b"0.000000000000000000000000001", b"1" + b"0" * 41, b'{"a":1,"a":[2]}', b'"\\ud83d\\ude00"'),
]
_NAMES = ["paymentId", "userId", "amount", "currency", "paymentMethod", "metadata", "unknown"]
_TOKENS = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\x00", b"\xff", b"\xc3\xa9"),
    *(b"\\ud800", b"\\udc00", b"\\x", b"NaN", b"Infinity", b"01", b"1.", b"\xef\xbb\xbf", b"//"),
]


@st.composite
def nearly_requests(draw: st.DrawFn) -> bytes:
    """Draw requests with odd values, repeated keys, and bytes that do not belong there."""
    pairs = [(name, bytes(msgspec.json.encode(value))) for name, value in FIELDS.items()]
    pair = st.tuples(st.sampled_from(_NAMES), st.sampled_from(_ODD_VALUES))
    for odd in draw(st.lists(pair, max_size=4)):
        pairs.insert(draw(st.integers(0, len(pairs))), odd)
    value = in_order(pairs)
    for token in draw(st.lists(st.sampled_from(_TOKENS), max_size=2)):
        at = draw(st.integers(0, len(value)))
        value = value[:at] + token + value[at + draw(st.integers(0, 1)) :]
    return value


any_values = (
    st.none()
    | st.binary(max_size=200)
    | json_values.map(msgspec.json.encode)
    | nearly_requests()
    | valid_requests().map(lambda each: each[0])
)
