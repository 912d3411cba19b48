"""remember: a segment's ids come back after a restart, and only what was committed."""

from pathlib import Path

import numpy as np
import pytest
from step_samples import decode, fetched, payment

from dataflow.batches import Forget, Identities, Restore, Seal
from dataflow.core.memory import Memory
from dataflow.core.segments import place
from dataflow.errors import StartRefusedError
from dataflow.spool import Spool
from dataflow.steps.decode import MemoryItem
from dataflow.steps.remember import Remember
from schemas.requests import IDENTITY_BYTES
from schemas.state import SegmentState, unpack

LANES = 4
SEGMENT = "00003/000000007"


def ids_of(*payment_ids: str, first_offset: int = 0) -> Identities:
    """Return what decode sends for a batch of these payments."""
    values = [payment(each) for each in payment_ids]
    (_, item), *_ = decode(LANES, fetched(*values, first_offset=first_offset))
    assert isinstance(item, Identities)
    return item


def restore(end_offset: int, records: int = 1, *, sealed: bool = False) -> Restore:
    return Restore(3, SEGMENT, 1000, end_offset, records, sealed)


def started(resumed: bytes | None = None) -> Remember:
    return Remember.builder(LANES)(resumed)


def handed_out(step: Remember, *items: MemoryItem) -> dict[int, list[int]]:
    """Return the offsets that each lane is told of."""
    out, discard = step.on_batch(list(items))
    assert not discard
    lanes = {}
    for lane, memory in out:
        assert isinstance(memory, Memory)
        assert (memory.segment, memory.dated_ms) == (SEGMENT, 1000)
        assert all(place(int(origin))[0] == 3 for origin in memory.origins)
        lanes[lane] = [place(int(origin))[1] for origin in memory.origins]
    return lanes


def test_while_it_only_remembers_it_says_nothing() -> None:
    assert handed_out(started(), ids_of("pay_1", "pay_2")) == {}


def test_after_a_restart_every_id_is_handed_out_to_its_lane() -> None:
    first = started()
    names = [f"pay_{n}" for n in range(50)]
    first.on_batch([ids_of(*names), ids_of("pay_x", first_offset=50)])
    lanes = handed_out(started(first.snapshot()), restore(51, 51))
    assert sorted(lanes) == [0, 1, 2, 3]
    assert sorted(offset for offsets in lanes.values() for offset in offsets) == [*range(51)]


def test_a_lane_without_ids_gets_nothing() -> None:
    first = started()
    first.on_batch([ids_of("pay_1")])
    assert [*handed_out(started(first.snapshot()), restore(1)).values()] == [[0]]


def test_ids_of_an_epoch_that_was_never_committed_are_not_handed_out() -> None:
    first = started()
    first.on_batch([ids_of("pay_0", "pay_1"), ids_of("pay_2", "pay_3", first_offset=2)])
    lanes = handed_out(started(first.snapshot()), restore(2, 2))
    assert sorted(offset for offsets in lanes.values() for offset in offsets) == [0, 1]


def test_nor_are_they_in_the_next_snapshot() -> None:
    first = started()
    first.on_batch([ids_of("pay_0", "pay_1")])
    second = started(first.snapshot())
    second.on_batch([restore(1)])
    assert len(unpack(second.snapshot(), SegmentState).identities) == IDENTITY_BYTES


def test_a_snapshot_is_a_copy() -> None:
    step = started()
    step.on_batch([ids_of("pay_0")])
    snapshot = step.snapshot()
    step.on_batch([ids_of("pay_1", first_offset=1)])
    assert len(unpack(snapshot, SegmentState).identities) == IDENTITY_BYTES


def test_a_forgotten_segment_is_forgotten_by_every_lane_and_by_recovery() -> None:
    step = started()
    step.on_batch([ids_of("pay_0")])
    forget = Forget(SEGMENT)
    out, discard = step.on_batch([forget])
    assert out == [(lane, forget) for lane in range(LANES)]
    assert discard


def test_what_was_handed_out_just_before_is_not_lost() -> None:
    """A segment that leaves the window in the epoch in which it is restored."""
    first = started()
    first.on_batch([ids_of("pay_0")])
    out, discard = started(first.snapshot()).on_batch([restore(1), Forget(SEGMENT)])
    assert [type(item) for _, item in out] == [Memory] + [Forget] * LANES
    assert discard


class TestUnknownSegments:
    def test_one_with_records_refuses_to_start(self) -> None:
        with pytest.raises(StartRefusedError) as refused:
            started().on_batch([restore(10, records=5)])
        assert str(refused.value) == (
            "The recovery store does not have segment 00003/000000007, which remembers 5 records:"
            " it is incomplete, or was put together from two backups. Restore all of its files"
            " from one backup; or start with an empty recovery directory, which forgets the"
            " paymentIds seen so far."
        )

    def test_one_without_records_has_nothing_to_miss(self) -> None:
        assert handed_out(started(), restore(0, records=0)) == {}

    def test_one_with_only_invalid_records_is_known(self) -> None:
        first = started()
        first.on_batch([Identities(0, np.empty(0, np.int64), b"", 0)])
        assert handed_out(started(first.snapshot()), restore(2, records=2)) == {}

    @pytest.mark.parametrize("snapshot", [b"", b"\x80\x05}\x94.", b"not ours"])
    def test_a_snapshot_of_something_else_refuses_to_start(self, snapshot: bytes) -> None:
        with pytest.raises(StartRefusedError, match="not ours"):
            started(snapshot)


class TestFullSegments:
    """They are not kept in memory, but the last snapshot of a run has them all."""

    @pytest.fixture
    def step(self, tmp_path: Path) -> Remember:
        return Remember.builder(LANES, Spool(tmp_path / "spool"))(None)

    def test_every_later_snapshot_is_the_same(self, step: Remember, tmp_path: Path) -> None:
        step.on_batch([ids_of("pay_0", "pay_1"), Seal(SEGMENT)])
        first = step.snapshot()
        assert [path.read_bytes() for path in (tmp_path / "spool").iterdir()] == [first]
        assert step.snapshot() == first
        assert len(unpack(first, SegmentState).identities) == 2 * IDENTITY_BYTES

    def test_one_that_is_sealed_after_its_snapshot_gets_another(self, step: Remember) -> None:
        step.on_batch([ids_of("pay_0")])
        before = step.snapshot()
        step.on_batch([Seal(SEGMENT)])
        assert step.snapshot() == step.snapshot() == before

    def test_a_restored_one_is_put_away_too(self, step: Remember, tmp_path: Path) -> None:
        step.on_batch([ids_of("pay_0", "pay_1")])
        again = Remember.builder(LANES, Spool(tmp_path / "spool"))(step.snapshot())
        assert [*handed_out(again, restore(1, sealed=True)).values()] == [[0]]
        assert len(unpack(again.snapshot(), SegmentState).identities) == IDENTITY_BYTES
        assert len([*(tmp_path / "spool").iterdir()]) == 1
        assert again.snapshot() == again.snapshot()

    def test_one_that_is_still_written_is_kept(self, step: Remember) -> None:
        step.on_batch([ids_of("pay_0")])
        again = Remember.builder(LANES)(step.snapshot())
        again.on_batch([restore(1)])
        again.snapshot()
        again.on_batch([ids_of("pay_1", first_offset=1)])
        assert len(unpack(again.snapshot(), SegmentState).identities) == 2 * IDENTITY_BYTES

    @pytest.mark.parametrize("item", [ids_of("pay_1", first_offset=1), restore(1, 0)])
    def test_nothing_comes_after_it(self, step: Remember, item: MemoryItem) -> None:
        """A snapshot without it would let a payment be charged twice."""
        step.on_batch([ids_of("pay_0"), Seal(SEGMENT)])
        step.snapshot()
        with pytest.raises(RuntimeError, match="00003/000000007 was sealed"):
            step.on_batch([item])

    def test_when_it_is_forgotten_its_file_goes(self, step: Remember, tmp_path: Path) -> None:
        step.on_batch([ids_of("pay_0"), Seal(SEGMENT)])
        step.snapshot()
        assert step.on_batch([Forget(SEGMENT)])[1]
        assert not [*(tmp_path / "spool").iterdir()]
