"""Runs stay few, and each entry is written only a few times, over weeks of traffic."""

from collections.abc import Iterator

import pytest

from dataflow.core.bloom import words_for
from dataflow.core.run_policy import RunAge, expired, to_merge
from dataflow.dedupe.run_format import ROWS, layout_of
from dataflow.scaling.costs import Costs

WEEK_S = 7 * 24 * 3600


def test_runs_of_one_size_are_merged() -> None:
    assert to_merge([RunAge(100, 10), RunAge(100, 11)], WEEK_S) == [0, 1]


def test_a_large_run_waits_until_the_others_are_as_large() -> None:
    large = RunAge(100, 10)
    assert to_merge([large, RunAge(40, 11)], WEEK_S) == []
    assert to_merge([large, RunAge(50, 11), RunAge(50, 12)], WEEK_S) == [0, 1, 2]


def test_an_era_that_is_over_becomes_one_run() -> None:
    runs = [RunAge(1000, 10), RunAge(1, 11), RunAge(1, WEEK_S)]
    assert to_merge(runs, WEEK_S) == [0, 1]
    assert to_merge(runs[1:], WEEK_S) == []


def test_runs_of_different_age_are_not_merged() -> None:
    assert to_merge([RunAge(1, day * WEEK_S // 8) for day in range(8)], WEEK_S) == []


def test_a_run_leaves_with_its_newest_entry() -> None:
    assert expired([RunAge(1, 10), RunAge(1, 11)], 11) == [0]


def test_many_small_runs_are_merged_some_at_a_time() -> None:
    chosen = to_merge([RunAge(1, n) for n in range(1000)], WEEK_S)
    assert len(chosen) == 16


def three_weeks(rows: int, every_s: int) -> Iterator[tuple[list[RunAge], int]]:
    """Yield the runs of steady traffic; before each merge with the rows that it writes, else 0."""
    runs: list[RunAge] = []
    for now_s in range(0, 3 * WEEK_S, every_s):
        runs.append(RunAge(rows, now_s))
        for number in reversed(expired(runs, now_s - WEEK_S)):
            del runs[number]
        while chosen := to_merge(runs, WEEK_S):
            merged = [runs[number] for number in chosen]
            made = RunAge(sum(m.rows for m in merged), max(m.newest_s for m in merged))
            yield runs, made.rows
            runs = [run for number, run in enumerate(runs) if number not in chosen]
            runs.append(made)
        yield runs, 0


def test_three_weeks_of_traffic_keep_runs_few_and_rewrites_few() -> None:
    """A generation each hour: what 30 ids a second make of 100,000."""
    course = [(len(runs), written) for runs, written in three_weeks(100, 3600)]
    assert max(count for count, written in course if not written) <= 14
    assert sum(written for _, written in course) / (3 * 7 * 24 * 100) < 7


@pytest.mark.parametrize(("rows", "hours"), [(100_000, 1), (300_000, 4)])
def test_files_take_45_bytes_for_each_id_of_the_window_also_during_a_merge(
    rows: int, hours: int
) -> None:
    """Of four lanes, of which one is merged at a time. The plan of a volume counts on it."""

    def size(rows: int) -> int:
        return layout_of(words_for(rows), -(-rows // ROWS)).end

    lanes, ids = 4, rows * 7 * 24 / hours
    taken = [
        sum(size(run.rows) for run in runs) * lanes + (size(written) if written else 0)
        for runs, written in three_weeks(rows, hours * 3600)
    ]
    assert size(rows) / rows < 38
    assert 42 < max(taken) / (ids * lanes) <= Costs().file_bytes
