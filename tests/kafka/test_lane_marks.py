"""The facts about the lanes' log that are committed beside their offsets."""

import pytest

from dataflow.kafka.lane_marks import (
    Committed,
    least_before,
    least_ids,
    left_to_read,
    since_s,
    trimmed_s,
)
from dataflow.kafka.lane_names import Metadata
from dataflow.kafka.lane_offsets import Offset


def committed(*lanes: list[tuple[int, int, int]]) -> Committed:
    """Return lanes of (LANES, ids, since) of each partition."""
    return {
        lane: {
            partition: Offset(1, Metadata(count, "t", "l", ids, since))
            for partition, (count, ids, since) in enumerate(each)
        }
        for lane, each in enumerate(lanes)
    }


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(),
        Metadata(8),
        Metadata(8, "topic-id_22"),
        Metadata(8, "abc", "def", 1_000_000, 1_767_225_600),
        Metadata(8, "abc", "def", 1_000_000, 1_767_225_600, "ghi", 12),
    ],
)
def test_metadata_come_back_as_they_were(metadata: Metadata) -> None:
    assert Metadata.read(str(metadata)) == metadata


@pytest.mark.parametrize("text", [None, "", "OffsetSync", "lanes=x", "ids=y since=-1 partitions=?"])
def test_a_foreign_entry_there_is_ignored(text: str | None) -> None:
    assert Metadata.read(text) == Metadata()


def test_an_offset_is_of_a_topic_unless_it_is_known_to_be_of_another() -> None:
    assert Metadata(8, "a").is_of("a")
    assert Metadata(8, "a").is_of(None)
    assert Metadata(8).is_of("a")
    assert not Metadata(8, "a").is_of("b")


def test_a_lane_must_have_what_it_remembered_when_it_committed_last() -> None:
    found = committed([(2, 50, 100), (2, 70, 100)], [(2, 9, 100)])
    assert [least_ids(found, lane, 2) for lane in range(3)] == [70, 9, 0]


def test_a_partition_that_has_been_quiet_since_does_not_count() -> None:
    """Of the ids it speaks of, some may be trimmed by now."""
    found = committed([(2, 5_000, 100), (2, 7, 900)], [(2, 9, 900)])
    assert since_s(found, 0) == 900
    assert least_ids(found, 0, 2) == 7


def test_only_what_all_lanes_have_forgotten_is_trimmed() -> None:
    found = committed([(2, 1, 500)], [(2, 1, 300), (2, 1, 400)])
    assert trimmed_s(found, 2) == 400
    assert trimmed_s(committed([(2, 1, 500)]), 2) == 0


def test_marks_of_another_number_of_lanes_do_not_count() -> None:
    found = committed([(4, 50, 100)], [(4, 60, 100)], [(4, 70, 100)], [(4, 80, 100)])
    assert [least_ids(found, lane, 2) for lane in range(2)] == [0, 0]


def test_nor_have_those_that_were_overtaken_by_another_number_of_lanes() -> None:
    """From 4 lanes to 2, which trimmed, and back to 4."""
    found = committed([(2, 5, 900)], [(2, 6, 900)], [(4, 70, 100)], [(4, 80, 100)])
    assert trimmed_s(found, 2) == 900
    assert [least_ids(found, lane, 4) for lane in range(4)] == [0, 0, 0, 0]


def test_a_new_lane_goes_by_what_the_others_have_forgotten() -> None:
    found = committed([(2, 5, 900)], [(2, 6, 800)])
    assert since_s(found, 7) == 900
    assert since_s({}, 0) == 0


def test_the_log_must_have_the_ids_of_all_lanes_after_their_number_has_changed() -> None:
    found = committed([(4, 50, 100)], [(4, 60, 100)], [(4, 70, 100)], [(4, 80, 100)])
    assert [least_before(found, lanes) for lanes in (2, 4, 8)] == [260, 0, 260]


def test_former_lanes_count_only_with_entries_that_are_not_trimmed() -> None:
    found = committed([(2, 5, 900)], [(2, 6, 900)], [(4, 70, 100)], [(4, 80, 900)])
    assert least_before(found, 2) == 80
    assert least_before(found, 3) == 80


@pytest.mark.parametrize(
    ("expected", "ours", "in_files", "left"),
    [
        (900, 300, 0, 900),
        (900, 300, 300, 0),
        (900, 300, 400, 0),
        (900, 300, 200, 300),
        (900, 900, 100, 800),
        (900, 0, 0, 900),
        (0, 0, 5, 0),
    ],
)
def test_the_log_is_read_for_the_lanes_of_all_processes_but_not_what_our_files_have(
    expected: int, ours: int, in_files: int, left: int
) -> None:
    assert left_to_read(expected, ours, in_files) == left
