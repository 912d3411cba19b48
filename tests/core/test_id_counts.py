"""Ids are counted without a look at them. With all tiers: `dedupe/test_model.py`."""

import numpy as np

from dataflow.core.id_counts import IdCounts


def dates(*each: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(each, np.int64)


def test_ids_are_counted_in_the_span_of_their_date() -> None:
    counts = IdCounts(10)
    counts.add_all(dates(10, 19, 20))
    assert counts.by_span() == {10: 2, 20: 1}
    counts.add(35, 1)
    counts.remove_all(dates(10))
    assert counts.by_span() == {10: 1, 20: 1, 30: 1}
    counts.forget(20)
    assert len(counts) == 2
    assert counts.uncounted_s == -1


def test_a_span_that_is_forgotten_in_part_has_an_unknown_number_left() -> None:
    counts = IdCounts(10, {10: 1, 20: 5, 30: 1})
    counts.forget(25)
    assert (counts.by_span(), counts.uncounted_s) == ({30: 1}, 29)


def test_an_id_that_was_not_counted_leaves_no_negative_number() -> None:
    counts = IdCounts(10, {20: 1}, uncounted_s=15)
    counts.add(25, 2)
    counts.remove_all(dates(10, 11))
    assert counts.by_span() == {20: 3}
    assert counts.uncounted_s == 15
