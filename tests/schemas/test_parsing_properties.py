"""The properties of any bytes: nothing is raised, nothing is guessed, both ways agree."""

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from schemas.outcomes import ErrorCode
from schemas.parsing import _examine, parse
from schemas.requests import PaymentRequest, Rejected
from tests.schemas.json_requests import (
    MAX_BYTES,
    any_values,
    json_values,
    nearly_requests,
    valid_requests,
)


@given(st.none() | st.binary(), st.integers(0, 100))
def test_no_bytes_raise(value: bytes | None, max_bytes: int) -> None:
    assert isinstance(parse(value, max_bytes), Rejected)


@given(json_values, st.integers(0, 100))
def test_no_json_raises(document: object, max_bytes: int) -> None:
    value = json.dumps(document, ensure_ascii=False).encode()
    assert isinstance(parse(value, max_bytes), Rejected)


@given(any_values, st.sampled_from([100, MAX_BYTES]))
def test_the_fast_way_and_the_thorough_way_agree(value: bytes | None, max_bytes: int) -> None:
    assert parse(value, max_bytes) == _examine(value, max_bytes)


@given(valid_requests())
def test_a_valid_request_is_read_exactly(sent: tuple[bytes, dict[str, object]]) -> None:
    value, fields = sent
    request = parse(value, MAX_BYTES)
    assert isinstance(request, PaymentRequest)
    digits = fields["amount"]
    assert isinstance(digits, bytes)
    assert request.digits == digits
    assert request.amount == Decimal(digits.decode())
    assert [request.payment_id, request.user_id, request.currency, request.payment_method] == [
        fields[name] for name in ("paymentId", "userId", "currency", "paymentMethod")
    ]


@given(nearly_requests())
def test_values_that_are_no_json_elsewhere_are_refused(value: bytes) -> None:
    """Compared with a parser that has nothing in common with ours."""

    def no_constant(name: str) -> None:
        raise ValueError(name)

    try:
        readable = isinstance(json.loads(value.decode(), parse_constant=no_constant), dict)
    except ValueError:
        readable = False
    result = parse(value, MAX_BYTES)
    malformed = isinstance(result, Rejected) and result.code is ErrorCode.MALFORMED
    # Half of a surrogate pair is JSON by its grammar, but no text: we are the stricter one there.
    assert malformed == (not readable) or b"\\ud" in value


@given(nearly_requests())
def test_a_broken_rule_is_reported_without_quoting_the_record(value: bytes) -> None:
    result = parse(value, MAX_BYTES)
    if isinstance(result, Rejected):
        assert result.message.isascii()
        assert len(result.message) <= 500
