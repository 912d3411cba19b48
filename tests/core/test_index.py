"""The index of remembered ids, one behaviour at a time. Against a model: `test_index_model.py`."""

from collections.abc import Iterable

import numpy as np
import pytest
from ids import Row, columns, memory, observe

from dataflow.core.index import Index, Verdict
from dataflow.core.memory import RECALLED_MS, Claims, Contested, Keys, Memory
from dataflow.core.segments import origin

FIRST, DUPLICATE, CONFLICT = Verdict
PAY_1 = Row((1, 1), content=7, origin=100)


@pytest.fixture
def index() -> Index:
    return Index()


def random_keys(number: int, seed: int = 0) -> Keys:
    return np.random.default_rng(seed).integers(0, 2**64, (number, 2), np.uint64)


class TestVerdicts:
    def test_an_unknown_id_is_claimed(self, index: Index) -> None:
        assert observe(index, "s", PAY_1) == [(FIRST, 100)]

    def test_the_same_content_again_is_a_duplicate_of_the_first(self, index: Index) -> None:
        observe(index, "s", PAY_1)
        assert observe(index, "s", PAY_1._replace(origin=200)) == [(DUPLICATE, 100)]

    def test_other_content_is_a_conflict_with_the_first(self, index: Index) -> None:
        observe(index, "s", PAY_1)
        assert observe(index, "s", PAY_1._replace(content=8, origin=200)) == [(CONFLICT, 100)]

    def test_a_conflict_does_not_change_what_the_id_stands_for(self, index: Index) -> None:
        observe(index, "s", PAY_1, PAY_1._replace(content=8))
        assert observe(index, "s", PAY_1) == [(DUPLICATE, 100)]
        assert observe(index, "s", PAY_1._replace(content=8)) == [(CONFLICT, 100)]

    def test_copies_in_one_batch_are_judged_in_its_order(self, index: Index) -> None:
        rows = [PAY_1._replace(content=c, origin=o) for c, o in [(7, 100), (7, 101), (8, 102)]]
        assert observe(index, "s", *rows) == [(FIRST, 100), (DUPLICATE, 100), (CONFLICT, 100)]

    def test_an_empty_batch_has_no_answer(self, index: Index) -> None:
        assert observe(index, "s") == []
        assert len(index) == 0

    @pytest.mark.parametrize("other", [(1, 2), (2, 1), (2, 2), (1, 1 + 2**63), (1 + 2**63, 1)])
    def test_ids_that_share_half_of_their_hash_are_different(
        self, index: Index, other: tuple[int, int]
    ) -> None:
        assert observe(index, "s", PAY_1, PAY_1._replace(key=other, origin=200)) == [
            (FIRST, 100),
            (FIRST, 200),
        ]
        assert observe(index, "s", PAY_1._replace(key=other)) == [(DUPLICATE, 200)]

    def test_the_largest_numbers_are_kept(self, index: Index) -> None:
        top = 2**64 - 1
        observe(index, "s", Row((top, top), top, top))
        assert observe(index, "s", Row((top, top), top, 0)) == [(DUPLICATE, top)]


class TestForget:
    def test_a_forgotten_id_can_be_claimed_again(self, index: Index) -> None:
        observe(index, "old", PAY_1)
        index.forget("old")
        assert len(index) == 0
        assert observe(index, "new", PAY_1._replace(content=8, origin=200)) == [(FIRST, 200)]
        assert observe(index, "new", PAY_1._replace(content=8)) == [(DUPLICATE, 200)]

    def test_a_repeat_refreshes_an_id(self, index: Index) -> None:
        observe(index, "old", PAY_1)
        observe(index, "new", PAY_1)
        index.forget("old")
        assert observe(index, "new", PAY_1) == [(DUPLICATE, 100)]

    def test_a_conflict_refreshes_it_too(self, index: Index) -> None:
        observe(index, "old", PAY_1)
        observe(index, "new", PAY_1._replace(content=8))
        index.forget("old")
        assert observe(index, "new", PAY_1) == [(DUPLICATE, 100)]

    def test_a_refreshed_id_is_forgotten_with_its_last_segment(self, index: Index) -> None:
        observe(index, "old", PAY_1)
        observe(index, "new", PAY_1)
        index.forget("new")
        assert observe(index, "newest", PAY_1) == [(FIRST, 100)]

    def test_a_repeat_never_shortens_its_life(self, index: Index) -> None:
        """A copy on a partition that is far behind: its segment leaves the window earlier."""
        observe(index, "ahead", PAY_1, dated_ms=2000)
        observe(index, "behind", PAY_1, dated_ms=1000)
        index.forget("behind")
        assert observe(index, "ahead", PAY_1) == [(DUPLICATE, 100)]

    def test_dates_outlive_a_compaction(self, index: Index) -> None:
        observe(index, "ahead", PAY_1, dated_ms=2000)
        observe(index, "gone", *(Row((n, 0), 1, n) for n in range(2_000)))
        index.forget("gone")
        observe(index, "behind", PAY_1, dated_ms=1000)
        index.forget("behind")
        assert len(index) == 1

    def test_a_segment_is_dated_by_its_newest_batch(self, index: Index) -> None:
        observe(index, "one", PAY_1, dated_ms=1000)
        observe(index, "one", dated_ms=3000)
        observe(index, "one", dated_ms=500)
        observe(index, "other", PAY_1, dated_ms=2000)
        index.forget("other")
        assert len(index) == 1

    def test_an_unknown_segment_is_nothing_to_forget(self, index: Index) -> None:
        observe(index, "s", PAY_1)
        index.forget("other")
        assert len(index) == 1

    def test_more_segments_than_there_was_room_for(self, index: Index) -> None:
        rows = [Row((n, n), 1, n) for n in range(300)]
        for n, row in enumerate(rows):
            observe(index, f"s{n}", row)
        for n in range(0, 300, 2):
            index.forget(f"s{n}")
        verdicts = [verdict for verdict, _ in observe(index, "new", *rows)]
        assert verdicts == [FIRST, DUPLICATE] * 150


class TestRestore:
    def test_what_came_first_has_claimed_the_id(self, index: Index) -> None:
        late = memory("a", [(PAY_1._replace(content=8, origin=200), 2000)])
        early = memory("b", [(PAY_1, 1000)])
        index.restore([late, early])
        assert observe(index, "a", PAY_1) == [(DUPLICATE, 100)]

    def test_in_one_instant_the_lower_origin_came_first(self, index: Index) -> None:
        higher = memory("b", [(PAY_1._replace(origin=200), 1000)])
        lower = memory("a", [(PAY_1, 1000)])
        index.restore([higher, lower])
        assert observe(index, "a", PAY_1) == [(DUPLICATE, 100)]

    @pytest.mark.parametrize("dates", [(2000, 1000), (1000, 1000)])
    def test_an_id_lives_with_the_latest_segment_it_was_seen_in(
        self, index: Index, dates: tuple[int, int]
    ) -> None:
        new = memory("new", [(PAY_1, 2000)], dated_ms=dates[0])
        index.restore([new, memory("old", [(PAY_1, 1000)], dated_ms=dates[1])])
        index.forget("old")
        assert len(index) == 1
        index.forget("new")
        assert len(index) == 0

    def test_nothing_to_restore(self, index: Index) -> None:
        index.restore([])
        index.restore([memory("s", [])])
        assert len(index) == 0

    def test_many_ids_of_many_segments(self, index: Index) -> None:
        memories = [
            memory(f"s{s}", [(Row((n, n % 7), 1, n), n) for n in range(s, 5_000, 3)], s)
            for s in range(3)
        ]
        index.restore(memories)
        assert len(index) == 5_000
        index.forget("s1")
        rows = [Row((n, n % 7), 1, 9_999) for n in range(5_000)]
        assert observe(index, "new", *rows) == [
            (FIRST, 9_999) if n % 3 == 1 else (DUPLICATE, n) for n in range(5_000)
        ]


class TestUncertainOrder:
    """Inside an epoch partitions have no order: which copy has claimed the id may not be known.

    If nobody can tell, a later copy is a conflict: it must never pass for a duplicate of what was
    not charged.
    """

    ELSEWHERE = PAY_1._replace(content=8, origin=origin(1, 0))

    def restored(self, *copies: tuple[Row, int]) -> Index:
        index = Index()
        index.restore([memory(f"s{n}", [copy]) for n, copy in enumerate(copies)])
        return index

    def verdicts(self, index: Index) -> list[Verdict]:
        return [observe(index, "s", PAY_1._replace(content=c))[0][0] for c in (7, 8, 9)]

    def test_other_content_on_another_partition_soon_after(self) -> None:
        index = self.restored((PAY_1, 0), (self.ELSEWHERE, 59_999))
        assert self.verdicts(index) == [CONFLICT] * 3

    def test_not_if_it_came_much_later(self) -> None:
        index = self.restored((PAY_1, 0), (self.ELSEWHERE, 60_000))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_not_on_the_same_partition(self) -> None:
        index = self.restored((PAY_1, 0), (PAY_1._replace(content=8, origin=101), 1))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_there_the_lower_offset_came_first_whatever_the_clocks_say(self) -> None:
        index = self.restored((PAY_1, 10**6), (PAY_1._replace(content=8, origin=101), 1))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_a_second_copy_on_a_partition_cannot_have_claimed_the_id(self) -> None:
        second = self.ELSEWHERE._replace(origin=origin(1, 1))
        first = self.ELSEWHERE._replace(content=7)
        index = self.restored((PAY_1, 0), (first, 1), (second, 2))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_not_with_the_same_content(self) -> None:
        index = self.restored((PAY_1, 0), (self.ELSEWHERE._replace(content=7), 1))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_what_came_later_still_leaves_no_doubt_about_those_that_agree(self) -> None:
        together = self.ELSEWHERE._replace(content=7)
        later = self.ELSEWHERE._replace(origin=origin(2, 0))
        index = self.restored((PAY_1, 0), (together, 1), (later, 60_000))
        assert self.verdicts(index) == [DUPLICATE, CONFLICT, CONFLICT]

    def test_other_ids_are_not_concerned(self) -> None:
        other = Row((2, 1), content=8, origin=origin(1, 5))
        assert self.verdicts(self.restored((PAY_1, 0), (other, 1))) == [
            DUPLICATE,
            CONFLICT,
            CONFLICT,
        ]


class TestTrail:
    """What was published tells which of several copies has claimed an id."""

    OTHER = PAY_1._replace(content=8, origin=origin(1, 0))

    def restore(
        self, *copies: tuple[Row, int], claims: Iterable[Row] = (), epoch_ms: int = 60_000
    ) -> tuple[Index, list[Contested]]:
        """Return the index, and what the trail was asked."""
        asked: list[Contested] = []

        def trail(contested: Contested) -> Claims:
            asked.append(contested)
            keys, _, origins = columns(claims)
            return Claims(keys, origins)

        index = Index()
        index.restore([memory(f"s{n}", [c]) for n, c in enumerate(copies)], trail, epoch_ms)
        return index, asked

    @pytest.mark.parametrize("claimer", [PAY_1, OTHER])
    def test_it_decides_between_copies_that_came_together(self, claimer: Row) -> None:
        index, _ = self.restore((PAY_1, 5), (self.OTHER, 6), claims=[claimer])
        assert observe(index, "s", claimer) == [(DUPLICATE, claimer.origin)]
        later = {PAY_1, self.OTHER} - {claimer}
        assert observe(index, "s", *later) == [(CONFLICT, claimer.origin)]

    def test_also_when_the_contents_are_equal(self) -> None:
        equal = self.OTHER._replace(content=7)
        index, _ = self.restore((PAY_1, 5), (equal, 6), claims=[equal])
        assert observe(index, "s", PAY_1) == [(DUPLICATE, equal.origin)]

    def test_a_claim_of_a_record_that_is_not_remembered_does_not_count(self) -> None:
        stranger = PAY_1._replace(origin=999)
        index, _ = self.restore((PAY_1, 5), (self.OTHER, 6), claims=[stranger, self.OTHER])
        assert observe(index, "s", self.OTHER) == [(DUPLICATE, self.OTHER.origin)]

    def test_nor_one_of_another_id(self) -> None:
        strangers = [PAY_1._replace(key=key) for key in [(1, 2), (2, 1)]]
        index, _ = self.restore((PAY_1, 5), (self.OTHER, 6), claims=strangers)
        assert observe(index, "s", PAY_1) == [(CONFLICT, PAY_1.origin)]

    def test_it_is_asked_once_about_all_of_them_and_about_nothing_else(self) -> None:
        rows = [PAY_1._replace(key=(n, n)) for n in range(3)]
        others = [self.OTHER._replace(key=row.key) for row in rows[:2]]
        _, (asked,) = self.restore(*((row, 5) for row in rows), *((row, 6) for row in others))
        assert asked.keys.tolist() == [[0, 0], [1, 1]]

    def test_it_is_not_asked_when_the_order_is_certain(self) -> None:
        assert self.restore((PAY_1, 5), (self.OTHER, 10_005), epoch_ms=10_000)[1] == []
        assert len(self.restore((PAY_1, 5), (self.OTHER, 10_004), epoch_ms=10_000)[1]) == 1

    def test_it_is_told_how_far_back_to_look(self) -> None:
        """A copy that was read again after a pause was published before the pause."""
        old = Row((3, 3), content=1, origin=9)
        _, (asked,) = self.restore((old, 1_000), (PAY_1, 900_000), (self.OTHER, 900_007))
        assert (asked.since_ms.tolist(), asked.until_ms.tolist()) == ([1_000], [900_007])

    def test_what_came_in_the_same_epoch_is_not_before_it(self) -> None:
        before = (Row((3, 3), content=1, origin=9), 1_000)
        together = (Row((4, 4), content=1, origin=10), 890_000)
        _, (asked,) = self.restore(before, together, (PAY_1, 900_000), (self.OTHER, 900_007))
        assert asked.since_ms.tolist() == [1_000]

    def test_if_nothing_came_before_then_to_the_copies_themselves(self) -> None:
        _, (asked,) = self.restore((PAY_1, 900_000), (self.OTHER, 900_007))
        assert asked.since_ms.tolist() == [900_000]


class TestRecall:
    """What was published after the snapshots, in an order that is not known."""

    def recalled(self, *rows: Row) -> Memory:
        return memory("recalled", [(row, RECALLED_MS) for row in rows])

    def test_a_recalled_id_is_known(self, index: Index) -> None:
        index.restore([self.recalled(PAY_1)])
        assert observe(index, "s", PAY_1) == [(DUPLICATE, 100)]
        assert observe(index, "s", PAY_1._replace(content=8)) == [(CONFLICT, 100)]

    def test_with_different_contents_every_later_copy_is_a_conflict(self, index: Index) -> None:
        other = PAY_1._replace(content=8, origin=origin(1, 0))
        index.restore([self.recalled(PAY_1), self.recalled(other)])
        assert observe(index, "s", PAY_1) == [(CONFLICT, 100)]
        assert observe(index, "s", other) == [(CONFLICT, 100)]

    def test_what_was_remembered_before_has_claimed_its_id_for_certain(self, index: Index) -> None:
        remembered = memory("s", [(PAY_1._replace(origin=origin(1, 0)), 0)])
        index.restore([self.recalled(PAY_1._replace(content=8)), remembered])
        assert observe(index, "s", PAY_1) == [(DUPLICATE, origin(1, 0))]

    def test_when_it_comes_again_it_belongs_to_its_own_segment(self, index: Index) -> None:
        index.restore([self.recalled(PAY_1)])
        observe(index, "own", PAY_1)
        index.forget("own")
        assert len(index) == 0


class TestSize:
    KEYS = random_keys(200_000)

    def fill(self, index: Index) -> list[float]:
        """Observe all keys, 4,000 at a time; return the bytes per id after each time."""
        numbers = np.arange(1, len(self.KEYS) + 1, dtype=np.uint64)
        used = []
        for start in range(0, len(self.KEYS), 4_000):
            part = slice(start, start + 4_000)
            segment = f"{start // 20_000}"
            seen = index.observe(segment, start, self.KEYS[part], numbers[part], numbers[part])
            assert not seen.verdicts.any()
            used.append(index.nbytes / len(index))
        return used

    def test_an_id_takes_at_most_64_bytes(self, index: Index) -> None:
        assert max(self.fill(index)[1:]) <= 64

    def test_all_are_found_again(self, index: Index) -> None:
        self.fill(index)
        numbers = np.arange(1, len(self.KEYS) + 1, dtype=np.uint64)
        seen = index.observe("again", 10**9, self.KEYS[::-1].copy(), numbers[::-1], numbers)
        assert (seen.verdicts == DUPLICATE).all()
        assert (seen.first_origins == numbers[::-1]).all()
        assert len(index) == 200_000

    def test_forgetting_gives_the_memory_back(self, index: Index) -> None:
        self.fill(index)
        for segment in range(9):
            index.forget(f"{segment}")
        assert len(index) == 20_000
        assert index.nbytes / len(index) <= 80

    def test_memory_is_flat_when_as_many_come_as_go(self, index: Index) -> None:
        sizes = []
        for n in range(60):
            keys = random_keys(2_000, seed=n)
            numbers = np.arange(1, 2_001, dtype=np.uint64)
            index.observe(f"s{n}", n, keys, numbers, numbers)
            index.forget(f"s{n - 10}")
            sizes.append(index.nbytes)
        assert len(index) == 20_000
        assert max(sizes[20:]) == max(sizes[:40])

    def test_segments_are_numbered_anew_when_as_many_come_as_go(self, index: Index) -> None:
        for n in range(300):
            observe(index, f"s{n}", *(Row((n, row), 1, row) for row in range(100)))
            index.forget(f"s{n - 10}")
        assert len(index) == 1_000
        assert index._next_number < 50

    def test_forgotten_rows_are_reused_only_for_their_own_id(self, index: Index) -> None:
        """With dead rows in the table, which are not yet given back."""
        keys = random_keys(500)
        numbers = np.arange(1, 501, dtype=np.uint64)
        index.observe("old", 0, keys, numbers, numbers)
        index.forget("old")
        half = index.observe("new", 1, keys[:250], numbers[:250] + 1, numbers[:250] + 1)
        assert not half.verdicts.any()
        assert len(index) == 250
        every = index.observe("new", 1, keys, numbers + 1, numbers + 2)
        assert every.verdicts.tolist() == [DUPLICATE] * 250 + [FIRST] * 250
        assert every.first_origins.tolist() == [*range(2, 252), *range(253, 503)]
