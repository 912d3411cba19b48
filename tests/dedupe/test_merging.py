"""Merged runs are what sorting all of their entries at once would give."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.lane_log import Entries, sorted_newest
from dataflow.dedupe import run, run_writer
from dataflow.dedupe.merging import merged
from dataflow.dedupe.run import Run
from dataflow.dedupe.run_format import PAGE, DamagedRunError
from tests.dedupe.remembered import Entry, Key, listed, random_entries, rows, write_run

words = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
runs = st.lists(
    st.dictionaries(st.tuples(words, words), st.integers(0, 9), min_size=1),
    min_size=1,
    max_size=4,
)


def opened(directory: Path, *each: Entries) -> list[Run]:
    made = []
    for number, entries in enumerate(each):
        path = directory / f"{number}.run"
        made.append(Run(path, write_run(path, entries, number).check))
    return made


def merge(runs: list[Run], horizon_s: int = 0) -> Entries:
    return np.concatenate(list(merged(runs, horizon_s)))


@given(runs, st.integers(0, 9))
def test_the_newest_entry_of_each_key_is_kept(
    tmp_path_factory: pytest.TempPathFactory, given: list[dict[Key, int]], horizon_s: int
) -> None:
    each = [rows(Entry(key, date + 1, date, date) for key, date in each.items()) for each in given]
    newest = {key: max(of.get(key, -1) for of in given) for one in given for key in one}
    kept = {key: date for key, date in newest.items() if date >= horizon_s}
    expected = [Entry(key, date + 1, date, date) for key, date in kept.items()]
    expected.sort(key=lambda entry: entry.key[::-1])
    made = opened(tmp_path_factory.mktemp("runs"), *each)
    assert listed(merge(made, horizon_s)) == expected


def test_large_runs_are_merged_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hundred ids share a word: a piece cannot end among those."""
    for module in (run, run_writer):
        monkeypatch.setattr(module, "PIECE", 2)
    each = [random_entries(5_000, seed, 100 + seed, shared=400) for seed in (1, 2, 3)]
    again = each[0][::2].copy()
    again["date_s"] = 900
    pieces = list(merged(opened(tmp_path, *each, again), 0))
    assert np.array_equal(np.concatenate(pieces), sorted_newest(np.concatenate([*each, again])))
    assert len(pieces) > 20
    assert max(map(len, pieces)) < 3_000


def test_damage_is_noticed(tmp_path: Path) -> None:
    runs = opened(tmp_path, random_entries(1_000, 1), random_entries(1_000, 2))
    data = bytearray(runs[1].path.read_bytes())
    data[-9 * 16 - 3 * PAGE] ^= 1
    runs[1].path.write_bytes(data)
    with pytest.raises(DamagedRunError, match="block 6"):
        merge(runs)
