"""dedupe: what a lane knows of each id, and what it need not publish again."""

import random

import numpy as np
import pytest
from step_samples import (
    CONFLICT,
    DUPLICATE,
    FIRST,
    GARBAGE,
    fetched,
    lane_batches,
    one_lane,
    parsed,
    payment,
)

from dataflow.batches import Forget, Judged, LaneBatch, Signal, Told
from dataflow.core.memory import Claims, Contested, Memory, Trail, no_trail
from dataflow.core.segments import Segment, origin
from dataflow.restores import Restores
from dataflow.steps.dedupe import Dedupe, LaneItem


def started() -> Dedupe:
    return Dedupe.builder(lambda *_: None)(None)


def judge(step: Dedupe, *items: LaneItem) -> list[Judged]:
    """Return what comes out of one epoch, without the signals."""
    out, discard = step.on_batch(list(items))
    assert not discard
    return [item for item in out if isinstance(item, Judged)]


def memory_of(batch: LaneBatch, arrived_ms: int) -> Memory:
    """Return what the batch's segment will hand out after a restart."""
    segment = Segment()
    offsets = batch.offsets[batch.valid]
    segment.append(int(batch.offsets[0]), offsets, batch.identities, arrived_ms)
    (memory,) = segment.memories(batch.segment, batch.dated_ms, batch.partition, 1)
    return memory


RESTORED = Told(Signal.RESTORED, 0, 0)


class TestVerdicts:
    def test_the_three_verdicts(self) -> None:
        values = [payment(amount=5), payment(amount=5.0), payment(amount=6)]
        (result,) = judge(started(), one_lane(*values))
        assert result.verdicts == [FIRST, DUPLICATE, CONFLICT]

    def test_they_hold_across_partitions(self) -> None:
        step = started()
        judge(step, one_lane(payment(), first_offset=40, partition=3))
        (result,) = judge(step, one_lane(payment(), first_offset=7, partition=5))
        assert result.verdicts == [DUPLICATE]
        assert result.first_origins == [origin(3, 40)]

    def test_invalid_records_claim_nothing(self) -> None:
        values = [payment(amount=-1), GARBAGE, None, payment()]
        (result,) = judge(started(), one_lane(*values))
        assert result.verdicts[3] == FIRST
        assert result.first_origins[3] == origin(0, 3)
        assert [parsed(value) for value in values] == result.parsed

    def test_a_forgotten_segment_frees_its_ids(self) -> None:
        step = started()
        judge(step, one_lane(payment(), segment="old"))
        (result,) = judge(step, Forget("old"), one_lane(payment(), segment="new"))
        assert result.verdicts == [FIRST]

    def test_an_id_lives_with_the_latest_dated_segment_it_was_seen_in(self) -> None:
        step = started()
        judge(step, one_lane(payment(), segment="ahead", dated_ms=2))
        judge(step, one_lane(payment(), segment="behind", dated_ms=1, partition=1))
        (result,) = judge(step, Forget("behind"), one_lane(payment(), first_offset=5))
        assert result.verdicts == [DUPLICATE]

    def test_a_batch_keeps_its_order_and_position(self) -> None:
        (result,) = judge(started(), one_lane(GARBAGE, payment(), first_offset=10, partition=2))
        assert (result.partition, result.offsets, result.next_offset) == (2, [10, 11], 12)
        assert result.times_ms.tolist() == [100, 110]

    def test_all_lanes_together_decide_as_one_would(self) -> None:
        draw = random.Random(1)
        values = [payment(f"pay_{draw.randrange(40)}", draw.randint(1, 2)) for _ in range(200)]
        (whole,) = judge(started(), one_lane(*values))
        found: dict[int, int] = {}
        for batch in lane_batches(8, fetched(*values)).values():
            (part,) = judge(started(), batch)
            found |= dict(zip(part.offsets, part.verdicts, strict=True))
        assert [found[offset] for offset in range(200)] == whole.verdicts
        assert set(whole.verdicts) == {FIRST, DUPLICATE, CONFLICT}


class TestCommitted:
    """What the lane had committed before a crash is remembered, and not published again."""

    VALUES = (payment("pay_0"), GARBAGE, payment("pay_2"), payment("pay_0"))

    def replayed(self, committed: int) -> tuple[Dedupe, list[Judged]]:
        step = started()
        batch = one_lane(*self.VALUES, first_offset=10, committed={0: committed})
        return step, judge(step, batch)

    def test_nothing_of_it_is_published(self) -> None:
        assert self.replayed(committed=14)[1] == []

    def test_but_it_is_remembered(self) -> None:
        step, _ = self.replayed(committed=14)
        (result,) = judge(step, one_lane(payment("pay_2"), first_offset=14))
        assert result.verdicts == [DUPLICATE]
        assert result.first_origins == [origin(0, 12)]

    def test_what_comes_after_it_is_published(self) -> None:
        _, (result,) = self.replayed(committed=12)
        assert result.offsets == [12, 13]
        assert result.verdicts == [FIRST, DUPLICATE]
        assert result.first_origins == [origin(0, 12), origin(0, 10)]
        assert result.parsed == [parsed(payment("pay_2")), parsed(payment("pay_0"))]
        assert result.times_ms.tolist() == [120, 130]
        assert result.next_offset == 14

    def test_a_lane_that_has_committed_nothing_publishes_everything(self) -> None:
        assert self.replayed(committed=0)[1][0].offsets == [10, 11, 12, 13]


class TestRecall:
    """After a crash, every committed id is known before anything is decided."""

    def test_only_what_the_lane_has_committed_is_recalled(self) -> None:
        values = [payment("pay_0"), GARBAGE, payment("pay_2"), payment("pay_3")]
        batch = one_lane(*values, first_offset=10, committed={0: 12}, recall=True)
        assert batch.offsets.tolist() == [10, 11]
        step = started()
        assert judge(step, batch) == []
        later = [payment("pay_0"), payment("pay_2")]
        (result,) = judge(step, one_lane(*later, first_offset=12, partition=1))
        assert result.verdicts == [DUPLICATE, FIRST]

    def two_copies(self, trail: Trail) -> list[tuple[int, int]]:
        """Recall an id with two contents, from two partitions; judge a copy of each."""
        step = Dedupe.builder(lambda *_: None, trail)(None)
        how = {"committed": {0: 9}, "recall": True, "segment": "recalled"}
        judge(step, one_lane(payment(amount=1), partition=0, **how))
        judge(step, one_lane(payment(amount=2), partition=1, **how))
        (result,) = judge(step, one_lane(payment(amount=1), payment(amount=2), first_offset=9))
        return list(zip(result.verdicts, result.first_origins, strict=True))

    def test_with_different_contents_a_later_copy_is_a_conflict(self) -> None:
        """Which of them was charged is not known: none may pass for a duplicate of it."""
        assert self.two_copies(no_trail) == [(CONFLICT, 0), (CONFLICT, 0)]

    @pytest.mark.parametrize("charged", [0, 1])
    def test_unless_the_audit_trail_tells_which_was_charged(self, charged: int) -> None:
        claimer = origin(charged, 0)

        def trail(contested: Contested) -> Claims:
            return Claims(contested.keys, np.array([claimer], np.uint64))

        verdicts = [(DUPLICATE, claimer), (CONFLICT, claimer)]
        assert self.two_copies(trail) == (verdicts[::-1] if charged else verdicts)

    def test_the_trail_is_asked_from_the_oldest_of_them_on(self) -> None:
        """Nothing is published before it was requested; `one_lane` stamps them 0, 10, ..."""
        asked: list[Contested] = []

        def trail(contested: Contested) -> Claims:
            asked.append(contested)
            return no_trail(contested)

        step = Dedupe.builder(lambda *_: None, trail)(None)
        how = {"committed": {0: 99}, "recall": True, "segment": "recalled"}
        for partition, offset in [(0, 7), (1, 5)]:
            judge(step, one_lane(payment(), partition=partition, first_offset=offset, **how))
        assert judge(step, RESTORED) == []
        assert [each.since_ms.tolist() for each in asked] == [[50]]

    def test_nothing_may_be_recalled_once_something_was_decided(self) -> None:
        step = started()
        judge(step, RESTORED)
        with pytest.raises(RuntimeError, match="after the index was built"):
            judge(step, one_lane(payment(), committed={0: 9}, recall=True))

    def test_the_same_records_come_again_and_are_not_published_then_either(self) -> None:
        values = [payment("pay_0"), payment("pay_1"), payment("pay_0")]
        step = started()
        judge(step, one_lane(*values, committed={0: 2}, recall=True, segment="recalled"))
        (result,) = judge(step, one_lane(*values, committed={0: 2}, segment="00000/000000000"))
        assert (result.offsets, result.verdicts) == ([2], [DUPLICATE])
        judge(step, Forget("00000/000000000"))
        (result,) = judge(step, one_lane(payment("pay_1"), first_offset=3))
        assert result.verdicts == [FIRST]


class TestRestore:
    def test_what_was_remembered_is_known_at_the_signal(self) -> None:
        step = started()
        memory = memory_of(one_lane(payment(), first_offset=5), arrived_ms=1)
        assert judge(step, memory, RESTORED) == []
        (result,) = judge(step, one_lane(payment(), first_offset=9))
        assert (result.verdicts, result.first_origins) == ([DUPLICATE], [origin(0, 5)])

    def test_or_at_the_first_record_if_that_comes_before_the_signal(self) -> None:
        """Inside an epoch, partitions have no order."""
        step = started()
        memory = memory_of(one_lane(payment()), arrived_ms=1)
        (result,) = judge(step, memory, one_lane(payment(), first_offset=9), RESTORED)
        assert result.verdicts == [DUPLICATE]

    def test_or_when_a_segment_is_forgotten(self) -> None:
        step = started()
        old = memory_of(one_lane(payment("pay_1"), segment="old"), arrived_ms=1)
        new = memory_of(one_lane(payment("pay_2"), segment="new", first_offset=1), arrived_ms=2)
        batch = one_lane(payment("pay_1"), payment("pay_2"))
        (result,) = judge(step, old, new, Forget("old"), batch)
        assert result.verdicts == [FIRST, DUPLICATE]

    def test_what_arrived_first_has_claimed_the_id_in_whichever_order_it_is_restored(self) -> None:
        early = memory_of(one_lane(payment(amount=1), partition=5, segment="5"), arrived_ms=1)
        late = memory_of(one_lane(payment(amount=2), partition=3, segment="3"), arrived_ms=10**6)
        for memories in ([early, late], [late, early]):
            step = started()
            judge(step, memories[0])
            judge(step, memories[1], RESTORED)
            (result,) = judge(step, one_lane(payment(amount=1), first_offset=9))
            assert (result.verdicts, result.first_origins) == ([DUPLICATE], [origin(5, 0)])

    def test_the_snapshot_is_empty(self) -> None:
        """The index is built from what `remember` hands out; it is never stored itself."""
        step = started()
        judge(step, one_lane(payment()))
        assert step.snapshot() is None  # type: ignore[func-returns-value]


def test_signals_are_passed_on_in_order() -> None:
    told = [Told(signal, 0, 5) for signal in Signal]
    out, _ = started().on_batch([told[0], one_lane(payment()), *told[1:]])
    assert [item for item in out if isinstance(item, Told)] == told
    assert isinstance(out[1], Judged)


def test_the_number_of_remembered_ids_is_reported_by_lane() -> None:
    reports: list[tuple[int, int | None]] = []
    build = Dedupe.builder(lambda *numbers: reports.append(numbers))
    one, other = build(None), build(None)
    judge(one, Told(Signal.OPEN, 0, 0))
    judge(one, one_lane(payment("pay_1"), payment("pay_2"), payment("pay_2")))
    judge(other, one_lane(payment("pay_3")))
    judge(one, Forget("00000/000000000"))
    assert reports == [(0, None), (0, 2), (1, 1), (0, 0)]


def test_how_far_the_restore_of_all_lanes_is() -> None:
    """Counted by copies: that is what the work is proportional to."""
    restores = Restores()
    build = Dedupe.builder(lambda *_: None, begin=lambda: restores.begin(0))
    one, other = build(None), build(None)
    judge(one, memory_of(one_lane(payment("pay_1"), payment("pay_2"), payment("pay_2")), 1))
    judge(other, memory_of(one_lane(payment("pay_3")), 1))
    assert restores.so_far == (0, 4, True)
    judge(one, RESTORED)
    assert restores.so_far == (3, 4, True)
    judge(other, RESTORED)
    assert restores.so_far == (4, 4, False)


def test_a_lane_with_nothing_to_restore_begins_no_restore() -> None:
    """A lane there was under another LANES is built by the engine too, but never called."""
    restores = Restores()
    step = Dedupe.builder(lambda *_: None, begin=lambda: restores.begin(0))(None)
    assert not restores.so_far.under_way
    judge(step, RESTORED)
    assert not restores.so_far.under_way
