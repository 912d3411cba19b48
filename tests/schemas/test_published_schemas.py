"""The schema files: as the code has them, never stricter than it, and laxer only where listed."""

import json
import re
from collections.abc import Callable
from decimal import Decimal, localcontext
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from msgspec import UNSET, Struct, UnsetType

from schemas import contract, money
from schemas.contract import NOT_IN_THE_SCHEMA, Field, Message
from schemas.events import ProcessedEvent
from schemas.parsing import MAX_DEPTH, parse
from schemas.requests import PaymentRequest
from tests import published
from tests.published import node
from tests.schemas.json_requests import (
    FIELDS,
    MAX_BYTES,
    any_values,
    currencies,
    nearly_requests,
    valid_requests,
    written,
)

SCHEMA = published.current()[published.REQUESTED]
DIALECTS = [Draft202012Validator, Draft7Validator]
NUMBER = re.compile(rb'"?(-?[0-9]+)(?:\.([0-9]+))?(?:[eE][+-]?([0-9]+))?"?')


@st.composite
def priced_requests(draw: st.DrawFn) -> bytes:
    """Draw valid requests but for their amount, some JSON number or a string of its kind."""
    whole = draw(st.from_regex(r"-?(0|[1-9][0-9]{0,14})|[1-9][0-9]{38,41}", fullmatch=True))
    fraction = draw(st.just("") | st.from_regex(r"\.([0-9]{1,6}|0{38,40})", fullmatch=True))
    exponent = draw(st.just("") | st.from_regex(r"[eE][+-]?[0-9]{1,3}", fullmatch=True))
    odd = draw(st.just("") | st.sampled_from(["\\n", " ", "0", "+", "x"]))
    digits = f"{whole}{fraction}{exponent}"
    amount = draw(st.sampled_from([digits, f'"{digits}"', f'"{digits}{odd}"', f'"{odd}{digits}"']))
    return written(amount=amount.encode(), currency=draw(currencies))


def document(value: bytes, number: Callable[[str], Any]) -> object:
    """Return what a sender may take a record for; a lenient parser guesses the encoding, too.

    Raises:
        ValueError: it is no JSON.
    """

    def no_constant(name: str) -> None:
        raise ValueError(name)

    return json.loads(value, parse_float=number, parse_int=number, parse_constant=no_constant)


VALIDATORS = {dialect: dialect(SCHEMA) for dialect in DIALECTS}


def is_valid(value: bytes, number: Callable[[str], Any], dialect: type[Any]) -> bool:
    try:
        parsed = document(value, number)
    except ValueError:
        return False
    with localcontext(prec=300):
        return bool(VALIDATORS[dialect].is_valid(parsed))


def unlisted(value: bytes) -> set[str]:
    """Return the names of the rules in `NOT_IN_THE_SCHEMA` that a record may break."""
    found = set()
    try:
        value.decode()
        fields = msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    except UnicodeDecodeError:
        return {"encoding"}
    except msgspec.DecodeError:
        return {"encoding"} if value.startswith(b"\xef\xbb\xbf") else {"text"}
    if re.search(rb"\\u[dD][89a-fA-F]", value):
        found.add("text")
    if len(value) > MAX_BYTES:
        found.add("size")
    if depth(document(value, float)) > MAX_DEPTH:
        found.add("depth")
    return found | unlisted_of_amount(bytes(fields["amount"]), bytes(fields["currency"]))


def unlisted_of_amount(amount: bytes, currency: bytes) -> set[str]:
    if b"\\" in amount:
        return {"escapes"}
    found = set()
    match = NUMBER.fullmatch(amount)
    assert match
    whole, fraction, exponent = (part or b"" for part in match.groups())
    if len(whole) > 40 or len(fraction) > 39 or len(exponent) > 2:
        found.add("digits")
    if exponent and amount.startswith(b'"'):
        found.add("exponent")
    elif not amount.startswith(b'"'):
        with localcontext(prec=300):
            minor_units = Decimal(amount.decode()).scaleb(
                money.EXPONENTS[msgspec.json.decode(currency)]
            )
            if minor_units != minor_units.to_integral_value():
                found.add("decimals")
    return found


def depth(parsed: object) -> int:
    inner = parsed.values() if isinstance(parsed, dict) else parsed
    if not isinstance(parsed, dict | list):
        return 0
    return 1 + max(map(depth, inner), default=0)  # type: ignore[call-overload]


class TestFiles:
    def test_they_are_those_of_the_code(self) -> None:
        files = {path.name: path.read_bytes() for path in published.FILES.iterdir()}
        assert files == contract.files(), "make contract"

    @pytest.mark.parametrize("name", published.current())
    @pytest.mark.parametrize("dialect", DIALECTS)
    def test_they_are_json_schemas_of_both_drafts(self, name: str, dialect: type[Any]) -> None:
        dialect.check_schema(published.current()[name])
        assert '"$ref"' not in json.dumps(published.current()[name])

    def test_a_field_that_is_not_described_stops_them(self) -> None:
        class Longer(ProcessedEvent, rename="camel", frozen=True, kw_only=True):
            closed_on: str

        message = Message("x", Longer, "", {}, {"metadata": "sometimes"})
        with pytest.raises(KeyError, match="closedOn"):
            contract.schema_of(message)

    def test_a_field_that_becomes_optional_stops_them(self) -> None:
        class Laxer(Struct, rename="camel"):
            user_id: str
            processed_at: str | UnsetType = UNSET

        message = Message("x", Laxer, "", {})
        with pytest.raises(ValueError, match="processedAt"):
            contract.schema_of(message)

    def test_a_later_field_shows_since_when(self) -> None:
        own = {"userId": Field("Who pays.", since="9.0.0")}
        message = Message("x", ProcessedEvent, "", own, {"metadata": "sometimes"})
        assert contract.schema_of(message)["properties"]["userId"]["x-since"] == "9.0.0"


WAYS = [*product((float, Decimal), DIALECTS)]
"""To read a request: as what its numbers are taken, and by which dialect it is checked."""


class TestRequests:
    """Each example in every way, as to make one takes longer than to check it."""

    @given(value=valid_requests().map(lambda each: each[0]) | nearly_requests() | priced_requests())
    def test_accepted_requests_are_valid(self, value: bytes) -> None:
        if isinstance(parse(value, MAX_BYTES), PaymentRequest):
            assert [way for way in WAYS if not is_valid(value, *way)] == []

    @given(value=any_values | priced_requests())
    @example(value=written(amount=b'"\\u0031"'))
    def test_valid_values_are_accepted_but_for_listed_exceptions(self, value: bytes | None) -> None:
        if value is not None and not isinstance(parse(value, MAX_BYTES), PaymentRequest):
            valid = [way for way in WAYS if is_valid(value, *way)]
            assert not valid or unlisted(value)


EXCEPTIONS = {
    "encoding": b"\xef\xbb\xbf" + written(),
    "text": written(userId=b'"\\ud800"'),
    "size": written(metadata={"note": "x" * MAX_BYTES}),
    "depth": written(metadata=b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH),
    "digits": written(amount=b"1." + b"0" * 40),
    "decimals": written(amount=b"1.001"),
    "escapes": written(amount=b'"\\u0031"'),
    "exponent": written(amount=b'"1e-3"'),
}


def test_every_exception_that_is_listed_has_an_example() -> None:
    assert EXCEPTIONS.keys() == NOT_IN_THE_SCHEMA.keys()


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_every_exception_that_is_listed_is_one(name: str) -> None:
    value = EXCEPTIONS[name]
    assert is_valid(value, float, Draft202012Validator)
    assert not isinstance(parse(value, MAX_BYTES), PaymentRequest)
    assert unlisted(value) == {name}


BREAKING: list[Any] = [
    *({name: UNSET} for name in FIELDS),
    *({name: None} for name in FIELDS),
    *({name: "x" * 256} for name in FIELDS),
    {"currency": "usd"},
    {"currency": "XAU"},
    *({"amount": amount} for amount in (0, -1, 10**12, "0.00", "-1", "01", " 1", "1\n", "1.")),
    *({"amount": amount} for amount in ("1.001", "1000000000000", "1000000000000.00", "")),
    *({"amount": amount, "currency": "JPY"} for amount in (1.5, "1.5")),
    {"metadata": []},
]


@pytest.mark.parametrize("change", BREAKING)
def test_the_schema_refuses_what_breaks_a_rule(change: dict[str, object]) -> None:
    value = written(**change)
    assert not is_valid(value, float, Draft202012Validator)
    assert not isinstance(parse(value, MAX_BYTES), PaymentRequest)


WITHIN = [
    written(amount=f"{quote}{amount}{quote}".encode(), currency=currency)
    for amount, currency in [
        *[("999999999999", each) for each in ("JPY", "USD", "KWD", "UYW")],
        *[("999999999999.00", "JPY"), ("999999999999.99", "USD"), ("999999999999.999", "KWD")],
        *[("999999999999.9999", "UYW"), ("0.0001", "UYW"), ("0.001", "KWD"), ("0.01", "USD")],
        *[("1", "JPY"), ("19.99", "USD"), ("0.29", "USD"), ("1.10", "EUR"), ("4.350", "KWD")],
        *[("1." + "0" * 39, "JPY"), ("1" + "0" * 39 + "e-30", "USD"), ("1e2", "JPY")],
        *[("99999999999999E-2", "USD"), ("0.000000001e+11", "JPY"), ("100e-02", "JPY")],
    ]
    for quote in ("", '"')
]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("number", [float, Decimal])
@pytest.mark.parametrize("value", WITHIN)
def test_the_schema_accepts_what_is_just_within_the_rules(
    value: bytes, number: Callable[[str], Any], dialect: type[Any]
) -> None:
    assert isinstance(parse(value, MAX_BYTES), PaymentRequest)
    assert is_valid(value, number, dialect)


def test_the_usual_validator_of_javascript_agrees() -> None:
    """Its numbers are binary floats, and its regular expressions another dialect."""
    refused = [written(**change) for change in BREAKING]
    texts = [value.decode() for value in (*WITHIN, *refused)]
    file = published.FILES / f"{published.REQUESTED}.schema.json"
    valid = node.run("validate.js", str(file), stdin=json.dumps(texts))
    assert valid == [True] * len(WITHIN) + [False] * len(refused)


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("payment-failed", {"original": ""}),
        ("payment-failed", {"originalTruncated": True}),
        ("payment-failed", {"error": {"code": "declined", "message": "x", "retryable": True}}),
        ("payment-failed", {"unknown": 1}),
        ("payment-failed", {"eventId": "1"}),
        ("payment-failed", {"failedAt": "2026-01-01T00:00:00Z"}),
        ("payment-failed", {"source": {"topic": "t", "partition": 0}}),
        ("audit-event", {"eventType": "payment.processed"}),
        ("audit-event", {"eventType": "payment.duplicate"}),
        ("audit-event", {"eventType": "payment.unheard-of"}),
    ],
)
def test_the_check_of_events_notices(name: str, event: dict[str, object]) -> None:
    """Every other test that calls `assert_valid` could pass if it saw nothing."""
    failed = {
        "eventId": "64746a08-39ac-88b8-83c5-00000000002a",
        "eventType": "payment.failed",
        "paymentId": "pay_1",
        "error": {"code": "invalid", "message": "amount: is required", "retryable": False},
        "source": {"topic": "t", "partition": 0, "offset": 42},
    }
    at = "failedAt" if name == "payment-failed" else "occurredAt"
    event = {**failed, at: "2026-01-01T00:00:00.123Z", **event}
    published.assert_valid(name, json.dumps({**failed, at: "2026-01-01T00:00:00.123Z"}).encode())
    with pytest.raises(AssertionError):
        published.assert_valid(name, json.dumps(event).encode())
