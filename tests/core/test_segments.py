"""How remembered ids are packed, and how a segment drops what was never committed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.segments import (
    Segment,
    lane_of_key,
    lanes_of,
    origin,
    place,
    segment_name,
    split_identities,
)
from schemas.requests import IDENTITY_BYTES, KEY_BYTES

Entry = tuple[int, bytes, int]
"""Offset, identity, and when it arrived."""


def identity(number: int) -> bytes:
    """Return 24 bytes that differ, in their key and in their content."""
    return np.random.default_rng(number).bytes(IDENTITY_BYTES)


def append(segment: Segment, first_offset: int, offsets: list[int], arrived_ms: int = 0) -> None:
    identities = b"".join(map(identity, offsets))
    segment.append(first_offset, np.array(offsets, np.int64), identities, arrived_ms)


def entries(segment: Segment, lanes: int = 1, partition: int = 0) -> list[Entry]:
    """Return all that a segment hands out, in the order of offsets."""
    return sorted(
        (place(int(at))[1], key.tobytes() + content.tobytes(), int(arrived))
        for memory in segment.memories("name", 5, partition, lanes)
        for key, content, at, arrived in zip(
            memory.keys, memory.prints, memory.origins, memory.arrived, strict=True
        )
    )


def offsets_of(segment: Segment) -> list[int]:
    return [offset for offset, _, _ in entries(segment)]


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[int], int]]:
    """Batches of one segment: first offset, offsets of the valid records, time of arrival."""
    batches = []
    start = draw(st.sampled_from([0, 10**6, 2**40]))
    for n in range(draw(st.integers(1, 6))):
        gaps = draw(st.lists(st.integers(0, 3), max_size=5))
        offsets = [start + sum(gaps[: i + 1]) + i for i in range(len(gaps))]
        batches.append((start, offsets, 1000 * n))
        start = (offsets[-1] if offsets else start) + draw(st.integers(1, 100))
    return batches


def replayed(batches: list[tuple[int, list[int], int]]) -> tuple[Segment, list[Entry]]:
    """Return a segment with this history, and what it has to remember."""
    segment = Segment()
    for first_offset, offsets, arrived_ms in batches:
        append(segment, first_offset, offsets, arrived_ms)
    return segment, [(o, identity(o), at) for _, offsets, at in batches for o in offsets]


class TestNames:
    def test_a_segment_is_named_by_partition_and_number(self) -> None:
        assert segment_name(7, 42) == "00007/000000042"

    @given(*[st.tuples(st.integers(0, 9999), st.integers(0, 10**9 - 1))] * 2)
    def test_names_sort_by_partition_and_number(
        self, one: tuple[int, int], other: tuple[int, int]
    ) -> None:
        assert (segment_name(*one) < segment_name(*other)) == (one < other)

    @given(st.integers(0, 2**16 - 1), st.integers(0, 2**48 - 1))
    def test_an_origin_is_a_partition_and_an_offset_in_64_bits(
        self, partition: int, offset: int
    ) -> None:
        assert place(origin(partition, offset)) == (partition, offset)
        assert origin(partition, offset) < 2**64


class TestAppend:
    @given(histories())
    def test_everything_is_handed_out_as_it_came(
        self, batches: list[tuple[int, list[int], int]]
    ) -> None:
        segment, expected = replayed(batches)
        assert entries(segment) == expected
        assert len(segment) == len(expected)

    def test_a_batch_without_a_valid_record_adds_nothing(self) -> None:
        segment = Segment()
        append(segment, 5, [])
        assert len(segment) == 0
        append(segment, 9, [9, 11])
        assert offsets_of(segment) == [9, 11]

    def test_what_is_at_or_above_the_batch_was_never_committed(self) -> None:
        """The phantom of an epoch that crashed, brought back by recovery."""
        segment = Segment()
        append(segment, 0, [0, 1], arrived_ms=1)
        append(segment, 2, [2, 3, 4], arrived_ms=2)
        append(segment, 2, [2, 4], arrived_ms=3)
        assert [(offset, at) for offset, _, at in entries(segment)] == [
            (0, 1),
            (1, 1),
            (2, 3),
            (4, 3),
        ]

    def test_also_if_the_batch_itself_has_nothing_to_remember(self) -> None:
        segment = Segment()
        append(segment, 0, [0, 1, 2])
        append(segment, 1, [])
        assert offsets_of(segment) == [0]

    def test_a_segment_of_nothing_but_phantoms_begins_anew(self) -> None:
        segment = Segment()
        append(segment, 1000, [1000, 1001], arrived_ms=1)
        append(segment, 3, [3, 4], arrived_ms=2)
        assert entries(segment) == [(3, identity(3), 2), (4, identity(4), 2)]


class TestTruncate:
    @given(histories(), st.data())
    def test_it_drops_exactly_what_is_at_or_above_the_offset(
        self, batches: list[tuple[int, list[int], int]], data: st.DataObject
    ) -> None:
        segment, expected = replayed(batches)
        last = batches[-1][0] + 20
        at_offset = data.draw(st.integers(max(0, batches[0][0] - 5), last), "offset")
        segment.truncate(at_offset)
        assert entries(segment) == [entry for entry in expected if entry[0] < at_offset]

    @given(histories(), st.data())
    def test_a_segment_that_was_cut_takes_new_entries(
        self, batches: list[tuple[int, list[int], int]], data: st.DataObject
    ) -> None:
        segment, expected = replayed(batches)
        at_offset = data.draw(st.integers(batches[0][0], batches[-1][0] + 20), "offset")
        append(segment, at_offset, [at_offset, at_offset + 7], arrived_ms=9)
        assert entries(segment) == [
            *(entry for entry in expected if entry[0] < at_offset),
            (at_offset, identity(at_offset), 9),
            (at_offset + 7, identity(at_offset + 7), 9),
        ]

    def test_an_empty_one_stays_empty(self) -> None:
        segment = Segment()
        segment.truncate(0)
        assert len(segment) == 0


class TestLanes:
    @given(histories(), st.integers(1, 9))
    def test_the_lanes_share_the_ids_completely_and_without_overlap(
        self, batches: list[tuple[int, list[int], int]], lanes: int
    ) -> None:
        segment, expected = replayed(batches)
        memories = segment.memories("name", 5, 3, lanes)
        assert len(memories) == lanes
        assert entries(segment, lanes) == expected
        for lane, memory in enumerate(memories):
            assert (memory.segment, memory.dated_ms) == ("name", 5)
            assert all(lanes_of(memory.keys, lanes) == lane)
            assert all(place(int(at))[0] == 3 for at in memory.origins)

    @given(st.lists(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)), st.integers(1, 256))
    def test_one_key_and_many_keys_have_the_same_lanes(self, keys: list[bytes], lanes: int) -> None:
        identities = b"".join(key + b"contents" for key in keys)
        assert lanes_of(split_identities(identities)[0], lanes).tolist() == [
            lane_of_key(key, lanes) for key in keys
        ]

    def test_no_fingerprint_is_0(self) -> None:
        """That stands for a content that is not known, and is equal to none."""
        identities = bytes(KEY_BYTES) + bytes(8) + bytes(KEY_BYTES) + b"\1" + bytes(7)
        assert split_identities(identities)[1].tolist() == [1, 1]

    def test_lanes_are_used_about_equally(self) -> None:
        keys, _ = split_identities(np.random.default_rng(1).bytes(IDENTITY_BYTES * 16_000))
        counts = np.bincount(lanes_of(keys, 16))
        assert min(counts) > 850
        assert max(counts) < 1150


class TestState:
    @given(histories())
    def test_a_segment_comes_back_from_its_state(
        self, batches: list[tuple[int, list[int], int]]
    ) -> None:
        segment, expected = replayed(batches)
        resumed, after = Segment(segment.state()), batches[-1][0] + 100
        assert entries(resumed) == expected
        assert resumed.state() == segment.state()
        append(resumed, after, [after], arrived_ms=9)
        assert offsets_of(resumed) == [*(entry[0] for entry in expected), after]

    def test_the_state_is_a_copy(self) -> None:
        """Recovery pickles it later, when the segment has gone on."""
        segment = Segment()
        append(segment, 0, [0, 1])
        state = segment.state()
        append(segment, 2, [2])
        segment.truncate(1)
        assert offsets_of(Segment(state)) == [0, 1]

    def test_what_is_handed_out_is_a_copy(self) -> None:
        segment = Segment()
        append(segment, 0, [0, 1], arrived_ms=5)
        (memory,) = segment.memories("name", 5, 0, 1)
        segment.truncate(0)
        append(segment, 0, [7, 8], arrived_ms=6)
        assert memory.origins.tolist() == [0, 1]
        assert memory.arrived.tolist() == [5, 5]
        assert memory.keys[0].tobytes() == identity(0)[:KEY_BYTES]

    def test_an_id_takes_28_bytes_and_a_batch_a_few_more(self) -> None:
        segment = Segment()
        append(segment, 0, list(range(100)))
        state = segment.state()
        assert len(state.identities) + len(state.offsets) == 100 * 28
        assert state.runs == ((100, 0),)


@pytest.mark.parametrize("offset", [2**31, 2**32 - 1])
def test_offsets_may_lie_far_apart(offset: int) -> None:
    segment = Segment()
    append(segment, 10, [10, 10 + offset])
    assert offsets_of(segment) == [10, 10 + offset]
