"""The pace at which a partition is read."""

from dataflow.core.batch_size import EPOCH_MOST, FIRST
from dataflow.core.read_pace import ReadPace

TIMEOUT_S = 60.0
NOW_S = 1_000.0


def pace(*, closes_early: bool = False) -> ReadPace:
    """Return the pace of a partition that is asked for its first records."""
    made = ReadPace(TIMEOUT_S, NOW_S, closes_early=closes_early)
    assert made.asked(NOW_S)
    return made


def test_the_first_batch_is_due_at_once() -> None:
    """It belongs to the epoch that the run resumes in."""
    assert ReadPace(TIMEOUT_S, NOW_S).is_hurried


def test_more_than_half_a_batch_is_a_backlog() -> None:
    made = pace()
    seen = []
    for records in (FIRST // 2, FIRST // 2 + 1):
        made.read(records, NOW_S)
        seen.append(made.is_hurried)
    assert seen == [False, True]


def test_a_partition_rests_until_a_phase_begins() -> None:
    made = pace()
    seen = []
    for step in (made.rest, made.phase_began):
        step()
        seen.append(made.is_hurried)
    assert seen == [False, True]


def test_an_epoch_is_full_at_its_bound_and_has_room_once_it_is_closed() -> None:
    made = pace()
    made.read(EPOCH_MOST - 1, NOW_S)
    assert made.asked(NOW_S)
    made.read(1, NOW_S)
    assert not made.asked(NOW_S)
    made.epoch_closed()
    assert made.asked(NOW_S)


def test_a_slow_batch_ends_its_epoch() -> None:
    """The transactions of the lanes are open meanwhile."""
    made = pace()
    made.read(10, NOW_S)
    assert made.asked(NOW_S + TIMEOUT_S / 4)
    made.read(10, NOW_S)
    assert not made.asked(NOW_S + TIMEOUT_S / 4 + 1)


def test_a_wait_without_a_batch_is_no_slow_one() -> None:
    made = pace()
    made.read(10, NOW_S)
    assert made.asked(NOW_S)
    made.read(0, NOW_S)
    assert made.asked(NOW_S + TIMEOUT_S)
    assert made.limit == FIRST


def test_the_limit_follows_what_batches_take() -> None:
    made = pace()
    made.read(FIRST, NOW_S)
    assert made.asked(NOW_S + 0.01)
    assert made.limit > FIRST
    made.read(made.limit, NOW_S)
    assert made.asked(NOW_S + 10)
    assert made.limit < FIRST


def test_a_partition_is_idle_once_it_had_no_record_for_a_while() -> None:
    made = pace()
    made.read(1, NOW_S)
    made.asked(NOW_S + 0.5)
    made.read(0, NOW_S + 0.5)
    assert not made.is_idle(NOW_S + 1)
    assert made.is_idle(NOW_S + 1.1)


def test_the_epoch_of_records_is_closed_early_and_the_next_one_at_its_instant() -> None:
    """The next call is for the charges that the first one has made possible."""
    made = pace(closes_early=True)
    made.read(1, NOW_S)
    assert made.is_early
    assert not made.is_hurried
    made.rest()
    assert not made.is_early


def test_an_epoch_without_records_is_not_closed_early() -> None:
    made = pace(closes_early=True)
    made.read(1, NOW_S)
    made.read(0, NOW_S)
    assert not made.is_early


def test_a_backlog_is_read_on_without_a_call_for_signals() -> None:
    made = pace(closes_early=True)
    made.read(FIRST, NOW_S)
    assert made.is_hurried
    assert not made.is_early


def test_no_epoch_is_closed_early_if_a_batch_is_charged_at_once() -> None:
    made = pace()
    made.read(1, NOW_S)
    assert not made.is_early
