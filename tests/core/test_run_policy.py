"""Runs stay few, and each entry is written only a few times, over weeks of traffic."""

from dataflow.core.run_policy import RunAge, expired, to_merge

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


def test_three_weeks_of_traffic_keep_runs_few_and_rewrites_few() -> None:
    """A generation each hour: what 30 ids a second make of 100,000."""
    runs: list[RunAge] = []
    written = most = 0
    hours = 3 * 7 * 24
    for hour in range(hours):
        now_s = hour * 3600
        runs.append(RunAge(100, now_s))
        for number in reversed(expired(runs, now_s - WEEK_S)):
            del runs[number]
        while chosen := to_merge(runs, WEEK_S):
            merged = [runs[number] for number in chosen]
            runs = [run for number, run in enumerate(runs) if number not in chosen]
            runs.append(RunAge(sum(m.rows for m in merged), max(m.newest_s for m in merged)))
            written += runs[-1].rows
        most = max(most, len(runs))
    assert most <= 14
    assert written / (hours * 100) < 7
