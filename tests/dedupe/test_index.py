"""The memory of an index, one behaviour at a time; in memory only.

With files: `test_tiered.py`. Against a model: `test_model.py`.
"""

import numpy as np
import pytest

from dataflow.core.lane_log import ENTRY, Entries
from dataflow.core.lanes import KeyArray
from dataflow.core.verdicts import Verdict
from dataflow.dedupe.background import Background
from dataflow.dedupe.tiered import TieredIndex
from tests.dedupe.ids import Row, entries, observe, rows_in, see

FIRST, DUPLICATE, CONFLICT = Verdict
PAY_1 = Row((1, 1), content=7, origin=100)
NOW = 1_767_225_600
SPAN = 10


def new_index() -> TieredIndex:
    return TieredIndex(lambda: 0, 16 * SPAN, SPAN, None, Background())


@pytest.fixture
def index() -> TieredIndex:
    return new_index()


def load(index: TieredIndex, entries: Entries, since_s: int = 0) -> None:
    """Restore what a log has."""
    index.forget_before(since_s)
    index.restore(entries)


def random_keys(number: int, seed: int = 0) -> KeyArray:
    return np.random.default_rng(seed).integers(0, 2**64, (number, 2), np.uint64)


class TestVerdicts:
    def test_an_unknown_id_is_claimed(self, index: TieredIndex) -> None:
        assert observe(index, NOW, PAY_1) == [(FIRST, 100)]

    def test_the_same_content_again_is_a_duplicate_of_the_first(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1)
        assert observe(index, NOW, PAY_1._replace(origin=200)) == [(DUPLICATE, 100)]

    def test_other_content_is_a_conflict_with_the_first(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1)
        assert observe(index, NOW, PAY_1._replace(content=8, origin=200)) == [(CONFLICT, 100)]

    def test_a_conflict_does_not_change_what_the_id_stands_for(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1, PAY_1._replace(content=8))
        assert observe(index, NOW, PAY_1) == [(DUPLICATE, 100)]
        assert observe(index, NOW, PAY_1._replace(content=8)) == [(CONFLICT, 100)]

    def test_copies_in_one_batch_are_judged_in_its_order(self, index: TieredIndex) -> None:
        rows = [PAY_1._replace(content=c, origin=o) for c, o in [(7, 100), (7, 101), (8, 102)]]
        assert observe(index, NOW, *rows) == [(FIRST, 100), (DUPLICATE, 100), (CONFLICT, 100)]

    def test_an_empty_batch_has_no_answer(self, index: TieredIndex) -> None:
        assert observe(index, NOW) == []
        assert len(index) == 0

    @pytest.mark.parametrize("other", [(1, 2), (2, 1), (2, 2), (1, 1 + 2**63), (1 + 2**63, 1)])
    def test_ids_that_share_half_of_their_hash_are_different(
        self, index: TieredIndex, other: tuple[int, int]
    ) -> None:
        assert observe(index, NOW, PAY_1, PAY_1._replace(key=other, origin=200)) == [
            (FIRST, 100),
            (FIRST, 200),
        ]
        assert observe(index, NOW, PAY_1._replace(key=other)) == [(DUPLICATE, 200)]

    @pytest.mark.parametrize("number", [0, 2**64 - 1])
    def test_the_smallest_and_the_largest_numbers_are_kept(
        self, index: TieredIndex, number: int
    ) -> None:
        observe(index, NOW, Row((number, number), number, number))
        assert observe(index, NOW, Row((number, number), number, 5)) == [(DUPLICATE, number)]
        assert observe(index, NOW, Row((number, number), 6, 5)) == [(CONFLICT, number)]


class TestExpiry:
    @pytest.mark.parametrize("date", [NOW, NOW + SPAN // 2, NOW + SPAN - 1])
    def test_an_id_lives_at_least_until_its_date_and_at_most_a_span_longer(self, date: int) -> None:
        index = new_index()
        observe(index, date, PAY_1)
        index.expire(date)
        assert len(index) == 1
        index.expire(date + SPAN)
        assert len(index) == 0

    def test_a_forgotten_id_can_be_claimed_again(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1)
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1._replace(content=8, origin=200)) == [(FIRST, 200)]
        assert observe(index, NOW + SPAN, PAY_1._replace(content=8)) == [(DUPLICATE, 200)]

    @pytest.mark.parametrize("content", [7, 8])
    def test_a_repeat_prolongs_its_life_also_one_with_other_content(
        self, index: TieredIndex, content: int
    ) -> None:
        observe(index, NOW, PAY_1)
        observe(index, NOW + SPAN, PAY_1._replace(content=content))
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1) == [(DUPLICATE, 100)]

    def test_a_repeat_never_shortens_its_life(self, index: TieredIndex) -> None:
        """The clock of another process may be behind."""
        observe(index, NOW + SPAN, PAY_1)
        observe(index, NOW, PAY_1)
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1) == [(DUPLICATE, 100)]

    def test_time_does_not_go_back(self, index: TieredIndex) -> None:
        """Nothing is dated before what is forgotten: it would be forgotten at once."""
        index.expire(NOW)
        index.expire(NOW - 10 * SPAN)
        assert index.since_s == NOW
        observe(index, NOW - SPAN, PAY_1)
        index.expire(NOW)
        assert observe(index, NOW, PAY_1) == [(DUPLICATE, 100)]

    def test_dates_outlive_a_compaction(self, index: TieredIndex) -> None:
        observe(index, NOW, *(Row((n, 0), 1, n) for n in range(2_000)))
        observe(index, NOW + 2 * SPAN, PAY_1)
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1) == [(DUPLICATE, 100)]
        index.expire(NOW + 2 * SPAN)
        assert len(index) == 1
        index.expire(NOW + 3 * SPAN)
        assert len(index) == 0

    def test_many_spans(self, index: TieredIndex) -> None:
        rows = [Row((n, n), 1, n) for n in range(300)]
        for n, row in enumerate(rows):
            observe(index, NOW + n * SPAN, row)
        index.expire(NOW + 150 * SPAN)
        verdicts = [verdict for verdict, _ in observe(index, NOW + 300 * SPAN, *rows)]
        assert verdicts == [FIRST] * 150 + [DUPLICATE] * 150


class TestEntries:
    """The lane log's entries for a batch."""

    def test_a_claim(self, index: TieredIndex) -> None:
        other = PAY_1._replace(key=(2, 2), origin=101)
        seen = see(index, NOW + 3, PAY_1, PAY_1._replace(content=8, origin=102), other)
        assert rows_in(seen.entries) == [(PAY_1, NOW + 3), (other, NOW + 3)]

    def test_a_repeat_in_the_same_span_is_not_worth_one(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1)
        assert len(see(index, NOW + SPAN - 1, PAY_1).entries) == 0

    @pytest.mark.parametrize("content", [7, 8])
    def test_a_repeat_that_prolongs_refers_to_the_request_that_claimed_the_id(
        self, index: TieredIndex, content: int
    ) -> None:
        """So it stands alone, whatever becomes of the first one."""
        observe(index, NOW, PAY_1)
        repeat = PAY_1._replace(content=content, origin=200)
        seen = see(index, NOW + SPAN, repeat, repeat)
        assert rows_in(seen.entries) == [(PAY_1, NOW + SPAN)]

    def test_a_repeat_with_an_older_date_is_not_worth_one(self, index: TieredIndex) -> None:
        observe(index, NOW + SPAN, PAY_1)
        assert len(see(index, NOW, PAY_1).entries) == 0

    def test_a_claim_after_the_window(self, index: TieredIndex) -> None:
        observe(index, NOW, PAY_1)
        index.expire(NOW + SPAN)
        again = PAY_1._replace(content=8, origin=200)
        assert rows_in(see(index, NOW + SPAN, again).entries) == [(again, NOW + SPAN)]


class TestRestore:
    def test_logged_ids_are_remembered(self, index: TieredIndex) -> None:
        load(index, entries(NOW, PAY_1))
        assert observe(index, NOW, PAY_1._replace(content=8)) == [(CONFLICT, 100)]
        assert observe(index, NOW, PAY_1) == [(DUPLICATE, 100)]

    def test_an_empty_log(self, index: TieredIndex) -> None:
        load(index, np.empty(0, ENTRY))
        assert observe(index, NOW, PAY_1) == [(FIRST, 100)]

    @pytest.mark.parametrize("order", [1, -1])
    def test_the_newest_entry_of_an_id_counts_in_whichever_order_they_come(
        self, index: TieredIndex, order: int
    ) -> None:
        claims = [entries(NOW, PAY_1), entries(NOW + 2 * SPAN, PAY_1._replace(content=8))]
        load(index, np.concatenate(claims[::order]))
        assert len(index) == 1
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1._replace(content=8)) == [(DUPLICATE, 100)]

    @pytest.mark.parametrize("order", [1, -1])
    def test_so_it_does_if_they_come_one_after_the_other(
        self, index: TieredIndex, order: int
    ) -> None:
        for each in [entries(NOW, PAY_1), entries(NOW + 2 * SPAN, PAY_1._replace(content=8))][
            ::order
        ]:
            load(index, each)
        assert len(index) == 1
        index.expire(NOW + SPAN)
        assert observe(index, NOW + SPAN, PAY_1._replace(content=8)) == [(DUPLICATE, 100)]

    def test_half_of_a_hash_in_common_is_not_the_same_id(self, index: TieredIndex) -> None:
        other = PAY_1._replace(key=(2, 1), origin=200)
        load(index, np.concatenate([entries(NOW, PAY_1, other), entries(NOW + 5, other)]))
        assert observe(index, NOW, PAY_1, other) == [(DUPLICATE, 100), (DUPLICATE, 200)]

    def test_forgotten_ids_stay_forgotten(self, index: TieredIndex) -> None:
        other = PAY_1._replace(key=(2, 2))
        old, new = entries(NOW - 1, PAY_1), entries(NOW, other)
        load(index, np.concatenate([old, new]), since_s=NOW)
        assert index.since_s == NOW
        assert (len(index), index.figures.hot) == (1, 1)
        assert observe(index, NOW, PAY_1, other) == [(FIRST, 100), (DUPLICATE, 100)]

    def test_forgotten_ids_stay_forgotten_when_spans_are_longer_than_before(
        self, index: TieredIndex
    ) -> None:
        """Of a span that is forgotten in part, what is left lives as long as it must."""
        other = PAY_1._replace(key=(2, 2))
        since_s = NOW + SPAN // 2
        old, new = entries(since_s - 1, PAY_1), entries(since_s, other)
        load(index, np.concatenate([old, new]), since_s)
        assert (len(index), index.most, index.since_s) == (1, 1, since_s)
        index.expire(NOW + SPAN - 1)
        assert (len(index), index.since_s) == (1, since_s)
        assert observe(index, NOW, PAY_1, other) == [(FIRST, 100), (DUPLICATE, 100)]
        index.expire(NOW + SPAN)
        assert (len(index), index.since_s) == (0, NOW + SPAN)

    def test_many_ids_of_many_spans(self, index: TieredIndex) -> None:
        rows = [Row((n, n % 7), 1, n) for n in range(5_000)]
        logged = [entries(NOW + s * SPAN, *rows[s::3]) for s in range(3)]
        load(index, np.concatenate(logged))
        assert len(index) == 5_000
        index.expire(NOW + SPAN)
        again = [row._replace(origin=9_999) for row in rows]
        assert observe(index, NOW + 3 * SPAN, *again) == [
            (FIRST, 9_999) if n % 3 == 0 else (DUPLICATE, n) for n in range(5_000)
        ]

    def test_a_loaded_index_is_no_larger_than_one_that_has_seen_it_all(self) -> None:
        numbers = np.arange(1, 200_001, dtype=np.uint64)
        seen, loaded = new_index(), new_index()
        load(loaded, seen.observe(NOW, random_keys(200_000), numbers, numbers).entries)
        assert len(loaded) == 200_000
        assert loaded.figures.hot_bytes <= 1.3 * seen.figures.hot_bytes


class TestSize:
    KEYS = random_keys(200_000)

    def fill(self, index: TieredIndex) -> list[float]:
        """Observe all keys, 4,000 at a time; return the bytes per id after each time."""
        numbers = np.arange(1, len(self.KEYS) + 1, dtype=np.uint64)
        used = []
        for start in range(0, len(self.KEYS), 4_000):
            part = slice(start, start + 4_000)
            date_s = NOW + start // 20_000 * SPAN
            seen = index.observe(date_s, self.KEYS[part], numbers[part], numbers[part])
            assert not seen.verdicts.any()
            used.append(index.figures.hot_bytes / len(index))
        return used

    def test_an_id_takes_at_most_64_bytes(self, index: TieredIndex) -> None:
        assert max(self.fill(index)[1:]) <= 64

    def test_all_are_found_again(self, index: TieredIndex) -> None:
        self.fill(index)
        numbers = np.arange(1, len(self.KEYS) + 1, dtype=np.uint64)
        seen = index.observe(NOW, self.KEYS[::-1].copy(), numbers[::-1], numbers)
        assert (seen.verdicts == DUPLICATE).all()
        assert (seen.first_origins == numbers[::-1]).all()
        assert len(index) == 200_000

    def test_forgetting_gives_the_memory_back(self, index: TieredIndex) -> None:
        self.fill(index)
        index.expire(NOW + 9 * SPAN)
        assert len(index) == 20_000
        assert index.figures.hot_bytes / len(index) <= 80

    def test_memory_is_flat_when_as_many_come_as_go(self, index: TieredIndex) -> None:
        sizes = []
        for n in range(60):
            keys = random_keys(2_000, seed=n)
            numbers = np.arange(1, 2_001, dtype=np.uint64)
            index.observe(NOW + n * SPAN, keys, numbers, numbers)
            index.expire(NOW + (n - 9) * SPAN)
            sizes.append(index.figures.hot_bytes)
        assert len(index) == 20_000
        assert max(sizes[20:]) == max(sizes[:40])

    def test_forgotten_rows_are_reused_only_for_their_own_id(self, index: TieredIndex) -> None:
        """With dead rows in the table, which are not yet given back."""
        keys = random_keys(500)
        numbers = np.arange(1, 501, dtype=np.uint64)
        index.observe(NOW, keys, numbers, numbers)
        index.expire(NOW + SPAN)
        half = index.observe(NOW + SPAN, keys[:250], numbers[:250] + 1, numbers[:250] + 1)
        assert not half.verdicts.any()
        assert len(index) == 250
        every = index.observe(NOW + SPAN, keys, numbers + 1, numbers + 2)
        assert every.verdicts.tolist() == [DUPLICATE] * 250 + [FIRST] * 250
        assert every.first_origins.tolist() == [*range(2, 252), *range(253, 503)]
