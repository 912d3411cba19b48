"""Hot ids against a dictionary, with limits so low that a few ids make the arrays grow."""

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core import hot_ids
from dataflow.core.hot_ids import HotIds
from dataflow.core.lane_log import Entries
from tests.dedupe.remembered import Entry, Key, hot, listed, random_entries, rows

words = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
keys = st.tuples(words, words)
entries = st.dictionaries(
    keys, st.tuples(st.integers(1, 9), st.integers(0, 2**64 - 1), st.integers(0, 9)), max_size=12
)
steps = st.lists(st.one_of(entries, st.integers(0, 9)), max_size=12)


def look_up(ids: HotIds, wanted: list[Key]) -> list[Entry]:
    found = ids.found(ids.rows_of(np.array(wanted, np.uint64).reshape(-1, 2)))
    columns = [column.tolist() for column in found]
    return [Entry(wanted[n], *rest) for n, *rest in zip(*columns, strict=True)]


def put(ids: HotIds, entries: Entries) -> None:
    ids.put(entries, ids.rows_of(np.ascontiguousarray(entries["key"])))


@given(steps)
def test_ids_are_as_they_were_put_last_until_they_are_swept(
    given: list[dict[Key, tuple[int, int, int]] | int],
) -> None:
    with patch.multiple(hot_ids, _MIN_ROWS=2, _GROWTH=1.1):
        ids, model = HotIds(), dict[Key, Entry]()
        for step in given:
            if isinstance(step, int):
                ids.sweep(step)
                if len(ids) != len(model):  # else it was not worth it
                    model = {key: each for key, each in model.items() if each.date_s >= step}
            else:
                batch = {key: Entry(key, *rest) for key, rest in step.items()}
                put(ids, rows(batch.values()))
                model |= batch
            assert len(ids) == len(model)
            assert look_up(ids, list(model)) == list(model.values())
            assert look_up(ids, [(7, 7)]) == []
        in_order = sorted(model.values(), key=lambda each: each.key[::-1])
        assert listed(ids.take(ids.order())) == in_order


def test_swept_ids_give_their_memory_back() -> None:
    ids = hot(random_entries(100_000, date_s=10))
    put(ids, random_entries(10, seed=1, date_s=20))
    before = ids.nbytes
    ids.sweep(20)
    assert len(ids) == 10
    assert ids.nbytes < before / 20


def test_an_id_takes_little_more_than_its_entry() -> None:
    ids = hot(random_entries(100_000))
    assert ids.nbytes / len(ids) < 60
