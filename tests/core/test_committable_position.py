"""The position that a source keeps: never beyond what has left the lanes."""

from dataflow.core.committable_position import CommittablePosition


def test_an_epoch_does_not_commit_its_own_messages() -> None:
    """It may still be on its way to its lane."""
    position = CommittablePosition(5, 5, sees_all=True)
    position.read(9, epoch=1, at_s=0)
    assert position.end_epoch(1, None) == 5
    assert not position.is_all
    assert position.end_epoch(2, None) == 9
    assert position.is_all


def test_the_lowest_queued_record_holds_it_back() -> None:
    position = CommittablePosition(0, 0, sees_all=True)
    position.read(10, epoch=0, at_s=0)
    position.read(20, epoch=0, at_s=0)
    assert position.end_epoch(1, lowest=3) == 0
    assert position.end_epoch(2, lowest=10) == 10
    assert position.end_epoch(3, lowest=None) == 20


def test_a_position_is_the_end_of_a_batch() -> None:
    """So that some lane has committed it, and a start can check that."""
    position = CommittablePosition(0, 0, sees_all=True)
    position.read(10, epoch=0, at_s=0)
    position.read(20, epoch=0, at_s=0)
    assert position.end_epoch(1, lowest=15) == 10


def test_only_flushed_epochs_are_committable_with_other_processes() -> None:
    position = CommittablePosition(0, 0, sees_all=False)
    position.read(10, epoch=0, at_s=1.0)
    position.read(20, epoch=1, at_s=2.0)
    assert position.end_epoch(2, None) == 0
    assert position.to_flush(0.5) is None
    assert position.to_flush(1.0) == 10
    position.flushed(10)
    assert position.end_epoch(3, None) == 10
    assert position.to_flush(1.0) is None
    assert position.to_flush(9.0) == 20


def test_a_flush_does_not_count_before_the_lanes_of_this_process_have_obeyed() -> None:
    position = CommittablePosition(0, 0, sees_all=False)
    position.read(10, epoch=0, at_s=0)
    position.flushed(10)
    assert position.end_epoch(1, lowest=4) == 0


def test_nothing_is_flushed_without_other_processes() -> None:
    position = CommittablePosition(0, 0, sees_all=True)
    position.read(10, epoch=0, at_s=0)
    assert position.to_flush(9.0) is None


def test_markers_below_the_start_are_no_records() -> None:
    """No lane ever commits a position behind them, so a start must not ask for that."""
    position = CommittablePosition(9, 5, sees_all=True)
    assert (position.end_epoch(0, None), position.records_end) == (9, 5)
    position.read(12, epoch=0, at_s=0)
    position.end_epoch(1, None)
    assert (position.offset, position.records_end) == (12, 12)


def test_it_does_not_go_back_behind_markers_that_were_passed() -> None:
    """Retention may have deleted all up to there since: a start would be refused."""
    position = CommittablePosition(100, 100, sees_all=True)
    position.pass_markers(105)
    assert (position.offset, position.records_end) == (105, 100)
    position.read(110, epoch=5, at_s=0)
    assert position.end_epoch(5, None) == 105
    assert position.end_epoch(6, None) == 110
    position.pass_markers(110)
    assert (position.offset, position.records_end) == (110, 110)


def test_everything_is_committable_after_a_drain() -> None:
    position = CommittablePosition(0, 0, sees_all=False)
    position.read(10, epoch=3, at_s=0)
    position.drain()
    assert (position.offset, position.records_end, position.is_all) == (10, 10, True)
