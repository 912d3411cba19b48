"""Entries are sorted and reduced as a dictionary would do it."""

from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.lane_log import ENTRY, sorted_newest
from tests.dedupe.remembered import Entry, listed, rows

words = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
entries = st.builds(
    Entry,
    st.tuples(words, words),
    st.integers(1, 9),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)


@given(st.lists(entries))
def test_the_newest_entry_of_each_key_is_kept_in_order(given: list[Entry]) -> None:
    newest: dict[tuple[int, int], Entry] = {}
    for each in given:
        if each.key not in newest or newest[each.key].date_s <= each.date_s:
            newest[each.key] = each
    expected = sorted(newest.values(), key=lambda each: each.key[::-1])
    assert listed(sorted_newest(rows(given))) == expected


def test_an_entry_takes_36_bytes() -> None:
    assert ENTRY.itemsize == 36
