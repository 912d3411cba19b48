"""The headers of records that anybody may have written.

How the real client treats a name that is not UTF-8 is in `integration/test_headers.py`.
"""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Message

from dataflow.config import header_names
from dataflow.kafka import record_headers
from dataflow.kafka.record_headers import forwarded_of, headers_of
from schemas.headers import MAX_VALUE_BYTES
from tests.bench.test_cost import calls

NAMES = header_names.DEFAULT


def record(offset: int, headers: Any = None) -> Message:
    return Message(offset=offset, value=b"{}", headers=headers)


class Unreadable:
    """A record of which the client makes an error, and a list with a hole at the next call."""

    def __init__(self, error: Exception) -> None:
        self.error: Exception | None = error
        self._headers: Any = [("traceparent", None)]

    def offset(self) -> int:
        return 7

    def headers(self) -> Any:
        if self.error is None:
            return self._headers
        error, self.error = self.error, None
        raise error

    def set_headers(self, headers: Any) -> None:
        self._headers = headers


ERRORS: list[Callable[[], Exception]] = [
    lambda: SystemError("returned a result with an exception set"),
    lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


@pytest.mark.parametrize("error", ERRORS)
def test_a_name_that_is_not_utf_8_is_met_once(error: Callable[[], Exception]) -> None:
    poison: Any = Unreadable(error())
    assert headers_of(poison) == []
    assert headers_of(poison) == [], "the list with the hole is never looked into"


@pytest.mark.parametrize("error", ERRORS)
def test_a_record_with_such_a_name_has_nothing_to_pass_on(
    error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask: Any = lambda message: message.headers()  # noqa: E731
    monkeypatch.setattr(record_headers, "_headers_of_message", ask)
    poison: Any = Unreadable(error())
    others = [record(6, [("baggage", b"a")]), poison, record(8, [("baggage", b"b")])]
    found, left_out = forwarded_of(others, NAMES)
    assert found == {6: [("baggage", b"a")], 8: [("baggage", b"b")]}
    assert left_out == 1
    assert headers_of(poison) == []


def test_headers_are_by_offset_and_those_left_out_are_counted() -> None:
    large = ("baggage", bytes(MAX_VALUE_BYTES + 1))
    records = [
        record(3),
        record(5, [("traceparent", b"t"), large, ("other", b"o")]),
        record(6, [("other", b"o")]),
        record(9, [large, large]),
    ]
    assert forwarded_of(records, NAMES) == ({5: [("traceparent", b"t")]}, 3)


def test_the_headers_of_a_record_are_let_go_of() -> None:
    """A record of a megabyte may have so many that they take a hundred megabytes in Python."""
    records = [record(1, [("x", b"")] * 10)]
    forwarded_of(records, NAMES)
    assert records[0].headers() == []


def read(names: tuple[str, ...], count: int) -> int:
    records = [record(n) for n in range(count)]
    return calls(lambda _: forwarded_of(records, names), None)  # type: ignore[arg-type]


def test_records_without_headers_cost_one_call_and_nothing_if_none_is_wanted() -> None:
    assert read((), 1000) == read((), 0)
    # `next`: that of the client is below it, and is seen by the profiler on some versions only.
    assert 1000 <= read(NAMES, 1000) - read(NAMES, 0) <= 2000
