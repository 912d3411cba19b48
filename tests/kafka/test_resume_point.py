"""The place a start looks at first: the previous run may be alive, and go on meanwhile."""

from typing import Any

import pytest

from dataflow.config.settings import Settings
from dataflow.core.state import SourceState
from dataflow.errors import StartRefusedError
from dataflow.kafka import start_facts
from dataflow.kafka.lane_names import Metadata
from dataflow.kafka.lane_offsets import Committed, Offset
from dataflow.kafka.partition_offsets import LATEST
from dataflow.kafka.resume_point import ResumePoint, ResumePoints
from dataflow.process_context import Cluster
from tests.support.required import REQUIRED


def test_a_run_that_still_commits_does_not_look_like_a_recreated_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each answer is a little later than the one before it."""
    now = iter(range(100, 1_000, 100))

    def offsets_at(_admin: Any, _topic: str, partitions: Any, spec: Any) -> dict[int, int]:
        return {each: next(now) if spec is LATEST else 0 for each in partitions}

    def committed_offsets(*_: Any, **__: Any) -> dict[int, Offset]:
        return {0: Offset(next(now), Metadata(lanes=4))}

    monkeypatch.setattr(start_facts, "offsets_at", offsets_at)
    monkeypatch.setattr(start_facts, "committed_offsets", committed_offsets)
    monkeypatch.setattr(start_facts, "_members", lambda *_: [])
    found = ResumePoints(Settings.from_env(REQUIRED), Cluster("", [0])).find(0, None)
    assert found.offset < found.end_offset


LANES = 4


def offset(partitions: int, lanes: int = LANES) -> Offset:
    return Offset(7, Metadata(lanes, partitions=partitions))


def lost(monkeypatch: pytest.MonkeyPatch, by_lane: dict[int, dict[int, Offset]]) -> bool:
    """Return whether partition 1, without a position, is refused with these lane offsets."""

    def committed_offsets(_: Any, group: str, *_more: Any, **__: Any) -> dict[int, Offset]:
        _, is_lane, lane = group.partition(".lane-")
        return by_lane.get(int(lane), {}) if is_lane else {0: Offset(7, Metadata(LANES))}

    monkeypatch.setattr(start_facts, "offsets_at", lambda *_: {0: 9, 1: 9})
    monkeypatch.setattr(start_facts, "committed_offsets", committed_offsets)
    monkeypatch.setattr(start_facts, "_members", lambda *_: [])
    settings = Settings.from_env(REQUIRED | {"LANES": str(LANES)})
    positions = ResumePoints(settings, Cluster("", [0, 1]))
    try:
        return positions.find(1, None).offset != 9
    except StartRefusedError as error:
        return "[1]: there is neither a snapshot nor an offset of group" in str(error)


def of_group(
    monkeypatch: pytest.MonkeyPatch, metadata: Metadata, snapshot: SourceState | None = None
) -> ResumePoint:
    """Return where a start begins by the group's offset 7, and by a snapshot if there is one."""

    def committed_offsets(_: Any, group: str, *_more: Any, **__: Any) -> dict[int, Offset]:
        return {} if ".lane-" in group else {0: Offset(7, metadata)}

    monkeypatch.setattr(start_facts, "offsets_at", lambda *_: {0: 9})
    monkeypatch.setattr(start_facts, "committed_offsets", committed_offsets)
    monkeypatch.setattr(start_facts, "_members", lambda *_: [])
    monkeypatch.setattr(start_facts.StartFacts, "low", {0: 0})
    return ResumePoints(Settings.from_env(REQUIRED), Cluster("", [0])).find(0, snapshot)


class TestLostLaneOffsets:
    """The group's offset has with it how far the lanes had committed."""

    KAFKA = Settings.from_env(REQUIRED).kafka

    def test_lanes_that_have_committed_less_than_they_had_are_refused(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = of_group(monkeypatch, Metadata(LANES, began=0, records=6))
        start.check(Committed({0: 6}, 6), self.KAFKA, 0)
        with pytest.raises(StartRefusedError, match="service-group stands at 6, but"):
            start.check(Committed({}, 0), self.KAFKA, 0)

    def test_markers_are_committed_by_no_lane(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The flow began at 7, has read no record since, and no lane has committed anything."""
        start = of_group(monkeypatch, Metadata(LANES, began=7, records=7))
        start.check(Committed({}, 0), self.KAFKA, 0)

    def test_an_old_copy_of_the_store_does_not_hide_where_reading_began_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At 7, by KAFKA_START; the copy is from before, and no record has come since."""
        old = SourceState(
            cluster="",
            topic=self.KAFKA.topic_requested,
            group=self.KAFKA.group_id,
            lanes=LANES,
            start_offset=0,
            next_offset=3,
            position=3,
        )
        start = of_group(monkeypatch, Metadata(LANES, began=7, records=7), old)
        assert start.offset == 7
        start.check(Committed({0: 3}, 3), self.KAFKA, 0)

    def test_an_offset_that_a_tool_has_set_is_believed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        start = of_group(monkeypatch, Metadata())
        assert (start.offset, start.began_at) == (7, 7)
        start.check(Committed({}, 0), self.KAFKA, 0)


def test_metadata_is_read_as_it_was_written() -> None:
    metadata = Metadata(LANES, "t", "l", 3, 4, "p", 5, 0, 0)
    assert Metadata.read(str(metadata)) == metadata
    assert Metadata.read(str(Metadata(LANES))) == Metadata(LANES)


def test_a_partition_that_every_lane_had_an_offset_of_is_not_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lost(monkeypatch, {lane: {0: offset(2)} for lane in range(LANES)})


def test_one_lane_without_an_offset_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would decide again what it cannot know that it has committed."""
    by_lane = {lane: {0: offset(2), 1: offset(2)} for lane in range(LANES)}
    assert not lost(monkeypatch, by_lane)
    assert lost(monkeypatch, {**by_lane, 3: {0: offset(2)}})
    assert lost(monkeypatch, {**by_lane, 3: {}})


def test_a_partition_that_was_added_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not lost(monkeypatch, {lane: {0: offset(1)} for lane in range(LANES)})


def test_a_first_run_that_crashed_before_all_lanes_had_committed_has_lost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not lost(monkeypatch, {0: {0: offset(0), 1: offset(0)}, 1: {0: offset(0)}})


def test_offsets_of_lanes_that_are_no_longer_used_may_expire(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    by_lane = {lane: {0: offset(2), 1: offset(2)} for lane in range(LANES)}
    assert not lost(monkeypatch, {**by_lane, 9: {0: offset(2, lanes=16)}})


def test_lanes_that_there_were_before_count_until_all_of_todays_have_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = {lane: {0: offset(2, 8), 1: offset(2, 8)} for lane in range(8)}
    assert not lost(monkeypatch, before)
    del before[7][1]
    assert lost(monkeypatch, before)


@pytest.mark.parametrize(
    ("plain", "refused"),
    [
        ({}, True),
        ({0: Offset(7, Metadata())}, True),
        ({0: Offset(7, Metadata(LANES)), 2: Offset(7, Metadata())}, True),
        ({0: Offset(7, Metadata(LANES)), 1: Offset(7, Metadata(LANES))}, True),
        ({0: Offset(7, Metadata(LANES)), 2: Offset(7, Metadata(LANES))}, False),
    ],
    ids=["new flow", "another service's", "its and ours", "without a store", "partition added"],
)
def test_a_reader_in_our_group_keeps_no_partition_that_is_added_from_starting(
    plain: dict[int, Offset],
    refused: bool,  # noqa: FBT001  (a parameter of the test)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would end a flow that has run beside it all the time."""

    def committed_offsets(_: Any, group: str, *_more: Any, **__: Any) -> dict[int, Offset]:
        return {} if ".lane-" in group else plain

    monkeypatch.setattr(start_facts, "offsets_at", lambda *_: {0: 9, 1: 9, 2: 9})
    monkeypatch.setattr(start_facts, "committed_offsets", committed_offsets)
    monkeypatch.setattr(start_facts, "_members", lambda *_: ["console at /10.0.0.7"])
    positions = ResumePoints(Settings.from_env(REQUIRED), Cluster("", [0, 1, 2]))
    if not refused:
        assert positions.find(1, None).offset == 9
        return
    with pytest.raises(StartRefusedError, match="has members"):
        positions.find(1, None)
