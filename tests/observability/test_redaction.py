"""The log's second line of defence: each thing that is masked, and what is left readable."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config.secret import Secret
from dataflow.observability import redaction
from dataflow.observability.redaction import redact, redact_text, register_secrets
from tests.support.card_numbers import card_numbers, no_digits

VISA = "4111111111111111"


@pytest.fixture(autouse=True)
def _fresh_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_whole", set())
    monkeypatch.setattr(redaction, "_embedded", [])


def masked(**event: Any) -> dict[str, Any]:
    return redact(None, "info", event)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
anything = st.recursive(
    plain | st.binary() | st.decimals(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize(
    "key",
    [
        "password",
        "sasl_password",
        "SSL.KEY.PASSWORD",
        "passwd",
        "client_secret",
        "accessToken",
        "sasl",
        "sasl.username",
        "card",
        "cardNumber",
        "card_no",
        "cardnumber",
        "pan",
        "PAN",
        "customerPan",
        "cvv",
        "cvc2",
        "Authorization",
        "api_key",
        "apikey",
        "set-cookie",
    ],
)
def test_a_value_is_masked_by_the_name_of_its_key(key: str) -> None:
    assert masked(**{key: "x"}) == {key: "***"}
    assert masked(**{key: {"a": [1, 2]}}) == {key: "***"}
    assert masked(outer=[{key: "x"}]) == {"outer": [{key: "***"}]}


@pytest.mark.parametrize("key", ["discarded", "cardinality", "japan", "panic", "span", "event"])
def test_keys_that_only_look_alike_are_left_alone(key: str) -> None:
    assert masked(**{key: "x"}) == {key: "x"}


def test_a_secret_that_is_not_there_is_not_masked() -> None:
    assert masked(password=None) == {"password": None}


@given(st.binary())
def test_bytes_are_counted_but_not_printed(value: bytes) -> None:
    shown = f"<{len(value)} bytes>"
    assert masked(a=value, b=[bytearray(value)], c={"d": memoryview(value)}) == {
        "a": shown,
        "b": [shown],
        "c": {"d": shown},
    }


@given(st.binary())
def test_bytes_inside_a_text_are_not_printed_either(value: bytes) -> None:
    """As when an exception's message was formatted from a payload."""
    assert redact_text(f"{{{value!r}}}") == "{<bytes>}"


@given(card_numbers(), no_digits, no_digits)
def test_a_card_number_is_masked_wherever_it_stands(card: str, before: str, after: str) -> None:
    shown = redact_text(before + card + after)
    assert card not in shown
    assert "*" * len(card) in shown


@pytest.mark.parametrize(
    "text",
    [
        f"charging {VISA} failed",
        f"pay_{VISA}",
        f'{{"pan":"{VISA}"}}',
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "3782 822463 10005",
        f"{VISA} 12/29",
        f"00 {VISA}",
    ],
)
def test_card_numbers_as_people_write_them(text: str) -> None:
    shown = redact_text(text)
    assert "***" in shown
    assert "1111" not in shown
    assert "822463" not in shown


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111112",  # its check digit is wrong
        "411111111111",  # 12 digits
        "41111111111111111116",  # 20 digits
        "4111 1111 1111 1112",
        "offset 1234567, 100000 records",
        "2026-03-01T12:00:00.123456Z",
        "127.0.0.1:9092",
    ],
)
def test_other_digits_are_left_readable(text: str) -> None:
    assert redact_text(text) == text


def test_numbers_are_not_taken_for_cards() -> None:
    """Offsets and timestamps are numbers, and one in ten of them would pass for a card."""
    assert masked(timestamp_ms=int(VISA)) == {"timestamp_ms": int(VISA)}


@given(
    secret=st.text(min_size=8).filter(lambda text: "*" not in text),
    before=no_digits,
    after=no_digits,
)
def test_a_registered_secret_is_masked_alone_and_inside_texts(
    secret: str, before: str, after: str
) -> None:
    redaction._whole.clear()  # of the previous example
    register_secrets([secret])
    assert masked(a=secret, b=[secret]) == {"a": "***", "b": ["***"]}
    assert list(masked(a={secret: 1})["a"]) == ["***"]
    assert secret not in redact_text(before + secret + after)


def test_a_short_secret_is_masked_where_it_is_the_whole_value() -> None:
    register_secrets(["kafka", "7", ""])
    assert masked(a="kafka", b="kafka is down", c=7, d="") == {
        "a": "***",
        "b": "kafka is down",
        "c": "***",
        "d": "",
    }


def test_a_secret_that_contains_another_one_is_masked_as_a_whole() -> None:
    register_secrets(["password", "the-password-too"])
    assert redact_text("it is the-password-too.") == "it is ***."


def test_other_objects_are_printed_as_their_masked_text() -> None:
    shown = masked(amount=Decimal("99.90"), error=ValueError(f"no {VISA}"), login=Secret("hunter2"))
    assert shown == {"amount": "99.90", "error": f"no {'*' * 16}", "login": "***"}


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError


def test_an_object_that_cannot_be_printed_does_not_break_the_line() -> None:
    assert masked(a=Unprintable(), b=1) == {"a": "<Unprintable>", "b": 1}


def test_a_structure_that_contains_itself_comes_to_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert masked(a=endless) == {"a": [[[[[["…"]]]]]]}


@given(st.dictionaries(st.text(), anything, max_size=3))
def test_any_log_entry_can_be_rendered_and_has_no_bytes(event: dict[str, Any]) -> None:
    def leaves(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            assert all(isinstance(key, str) for key in value)
            value = list(value.values())
        if isinstance(value, list):
            for inner in value:
                yield from leaves(inner)
        else:
            yield value

    kinds = {type(leaf) for leaf in leaves(redact(None, "info", event))}
    assert kinds <= {type(None), bool, int, float, str}


@given(st.dictionaries(st.text(), anything, max_size=3))
def test_masking_twice_changes_nothing_more(event: dict[str, Any]) -> None:
    once = redact(None, "info", event)
    assert redact(None, "info", once) == once
