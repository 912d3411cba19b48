"""The rules of `dataflow.core.verdicts`, one by one."""

import numpy as np
import pytest

from dataflow.core.hot_ids import Found
from dataflow.core.verdicts import Distinct, Judgement, Known, Verdict, judge
from tests.dedupe.remembered import Entry, answers, batch, listed, rows

FIRST, DUPLICATE, CONFLICT = Verdict
# A span begins at 960, the next one at 1020.
ID = Entry((1, 2), content=7, origin=100, date_s=1_000)
SPAN_S, HORIZON_S = 60, 500


def judged(requests: list[Entry], *tiers: list[Entry], horizon_s: int = HORIZON_S) -> Judgement:
    """Judge a batch; each tier has some entries."""
    given = batch(requests)
    distinct = Distinct(given.keys)
    known = Known(len(distinct.keys))
    for tier in tiers:
        have = rows(tier)
        places = [distinct.keys.tolist().index(list(each.key)) for each in tier]
        known.add(
            Found(np.array(places, np.int64), have["fingerprint"], have["origin"], have["date_s"])
        )
    return judge(given, distinct, known, horizon_s, SPAN_S)


def test_an_unknown_id_is_claimed_by_an_entry() -> None:
    judgement = judged([ID])
    assert answers(judgement) == [(FIRST, 100)]
    assert listed(judgement.entries) == [ID]


def test_repeats_in_a_batch_are_judged_in_its_order_and_make_one_entry() -> None:
    requests = [ID, ID._replace(origin=101), ID._replace(content=8, origin=102)]
    judgement = judged(requests)
    assert answers(judgement) == [(FIRST, 100), (DUPLICATE, 100), (CONFLICT, 100)]
    assert listed(judgement.entries) == [ID]


def test_a_repeat_in_the_same_span_changes_nothing() -> None:
    judgement = judged([ID._replace(origin=200, date_s=1_019)], [ID])
    assert answers(judgement) == [(DUPLICATE, 100)]
    assert len(judgement.entries) == 0


def test_a_clock_that_went_back_shortens_no_life() -> None:
    judgement = judged([ID._replace(origin=200, date_s=900)], [ID])
    assert answers(judgement) == [(DUPLICATE, 100)]
    assert len(judgement.entries) == 0


@pytest.mark.parametrize(("content", "verdict"), [(7, DUPLICATE), (8, CONFLICT)])
def test_a_repeat_in_a_later_span_prolongs_with_the_claimers_content(
    content: int, verdict: Verdict
) -> None:
    judgement = judged([Entry(ID.key, content, 200, 1_020)], [ID])
    assert answers(judgement) == [(verdict, 100)]
    assert listed(judgement.entries) == [ID._replace(date_s=1_020)]
    assert judgement.before_s.tolist() == [1_000]


def test_a_forgotten_id_is_claimed_again() -> None:
    again = ID._replace(content=8, origin=200, date_s=1_500)
    judgement = judged([again], [ID], horizon_s=1_001)
    assert answers(judgement) == [(FIRST, 200)]
    assert listed(judgement.entries) == [again]


def test_an_id_dated_at_the_horizon_is_still_remembered() -> None:
    assert answers(judged([ID._replace(origin=200)], [ID], horizon_s=1_000)) == [(DUPLICATE, 100)]


@pytest.mark.parametrize("turn", [1, -1])
def test_the_newest_entry_counts_whichever_tier_has_it(turn: int) -> None:
    old, new = ID._replace(content=9, origin=9, date_s=600), ID
    judgement = judged([ID._replace(origin=200)], *[[old], [new]][::turn])
    assert answers(judgement) == [(DUPLICATE, 100)]


@pytest.mark.parametrize("other", [(1, 3), (2, 2), (2, 1)])
def test_ids_that_share_half_of_their_hash_are_different(other: tuple[int, int]) -> None:
    requests = [ID, ID._replace(key=other, content=8, origin=200), ID._replace(origin=300)]
    assert answers(judged(requests)) == [(FIRST, 100), (FIRST, 200), (DUPLICATE, 100)]


def test_an_empty_batch_has_no_answer() -> None:
    judgement = judged([])
    assert answers(judgement) == []
    assert len(judgement.entries) == 0


def test_the_ids_of_a_batch_are_sorted_as_runs_are() -> None:
    keys = np.random.default_rng(0).integers(0, 4, (50, 2), np.uint64)
    assert Distinct(keys).keys[:, 1].tolist() == sorted(Distinct(keys).keys[:, 1].tolist())
