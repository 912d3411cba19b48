"""The records of a lane's log: entries in, entries out, and nothing else taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.lane_log import (
    ENTRY,
    ForeignRecordError,
    entries_in,
    headers,
    is_of_a_lane,
    lane_in,
    pieces,
)
from tests.dedupe.ids import Row, entries, rows_in

words = st.integers(0, 2**64 - 1)
rows = st.builds(Row, key=st.tuples(words, words), content=words, origin=words)
dates = st.integers(0, 2**32 - 1)


@given(st.lists(rows), dates)
def test_entries_come_back_as_they_were(given_rows: list[Row], date_s: int) -> None:
    value = entries(date_s, *given_rows).tobytes()
    assert rows_in(entries_in(value)) == [(row, date_s) for row in given_rows]


def test_the_layout_is_what_is_in_the_topics() -> None:
    """To change it is to write a new version."""
    value = entries(0x04030201, Row((1, 2), 3, 4)).tobytes()
    numbers = b"".join(n.to_bytes(8, "little") for n in (1, 2, 3, 4))
    assert value == numbers + b"\x01\x02\x03\x04"
    assert headers(3, 8) == [("version", b"2"), ("lane", b"3"), ("lanes", b"8")]


def test_the_layout_of_the_first_version_is_read_as_well() -> None:
    assert lane_in([("version", b"1"), ("lane", b"3"), ("lanes", b"8")]) == (3, 8)


@given(st.integers(0, 50), st.integers(ENTRY.itemsize, 500))
def test_pieces_are_small_enough_and_hold_whole_entries(count: int, most_bytes: int) -> None:
    value = entries(1, *(Row((n, n), n, n) for n in range(count))).tobytes()
    found = list(pieces(value, most_bytes))
    assert b"".join(found) == value
    assert all(0 < len(piece) <= most_bytes for piece in found)
    assert sum(len(entries_in(piece)) for piece in found) == count
    assert len(found) == -(-count // (most_bytes // ENTRY.itemsize))


@given(st.integers(0, 255), st.integers(1, 256))
def test_headers_name_the_lane_and_how_many_there_are(lane: int, lanes: int) -> None:
    assert is_of_a_lane(headers(lane, lanes))
    assert lane_in(headers(lane, lanes)) == (lane, lanes)


@pytest.mark.parametrize(
    "found",
    [
        None,
        [],
        [("lane", b"1"), ("lanes", b"8")],
        [("version", b"1"), ("lane", b"1")],
        [("traceparent", b"00-1-2-01"), ("version", b"1")],
    ],
)
def test_a_record_of_something_else_is_none_of_a_lane(
    found: list[tuple[str, bytes | None]] | None,
) -> None:
    assert not is_of_a_lane(found)


@pytest.mark.parametrize(
    "found",
    [
        [("version", b"1"), ("lane", b"x"), ("lanes", b"8")],
        [("version", b"1"), ("lane", None), ("lanes", b"8")],
        [("version", b"3"), ("lane", b"1"), ("lanes", b"8")],
    ],
)
def test_headers_that_cannot_be_read_are_still_those_of_a_lane(
    found: list[tuple[str, bytes | None]],
) -> None:
    """Headers that a newer version has written, too, are never passed over."""
    assert is_of_a_lane(found)
    with pytest.raises(ForeignRecordError):
        lane_in(found)


@pytest.mark.parametrize("size", [1, 35, 37, 71])
def test_a_part_of_an_entry_is_refused(size: int) -> None:
    with pytest.raises(ForeignRecordError, match=f"{size} bytes are no whole number of entries"):
        entries_in(b"x" * size)
