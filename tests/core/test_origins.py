"""Origins: a number for each place in the input, and for the topic that was there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.origins import are_same, generation_of, origin, origins, place, places

partitions = st.integers(0, 2**16 - 1)
offsets = st.integers(0, 2**40 - 1)
generations = st.integers(0, 255)


@given(partitions, offsets, generations)
def test_an_origin_has_its_place_with_any_generation(
    partition: int, offset: int, generation: int
) -> None:
    number = origin(partition, offset, generation)
    assert place(number) == (partition, offset)
    found = origins(partition, np.array([offset]), generation)
    assert found.tolist() == [number]
    assert places(found).tolist() == [origin(partition, offset)]


def test_origins_without_a_generation_are_those_of_the_first_version() -> None:
    """The entries that it has written are read as they are."""
    assert origin(3, 7) == 3 << 48 | 7


@given(partitions, offsets, generations, partitions, offsets, generations)
def test_origins_are_the_same_by_place_and_by_generation_where_both_have_one(
    partition: int, offset: int, generation: int, partition2: int, offset2: int, generation2: int
) -> None:
    def found(*other: int) -> bool:
        some, others = origin(partition, offset, generation), origin(*other)
        [are] = are_same(np.array([some], np.uint64), np.array([others], np.uint64)).tolist()
        return bool(are)

    one_topic = generation == generation2 or 0 in {generation, generation2}
    assert found(partition, offset, generation2) == one_topic
    is_same_place = (partition, offset) == (partition2, offset2)
    assert found(partition2, offset2, generation) == is_same_place


@given(st.text())
def test_a_topic_with_an_id_has_a_generation_that_stays(topic_id: str) -> None:
    assert 1 <= generation_of(topic_id) <= 255
    assert generation_of(topic_id) == generation_of(topic_id)


def test_a_topic_without_an_id_has_none() -> None:
    assert generation_of(None) == 0


def test_nearly_all_topics_have_another_generation() -> None:
    found = [generation_of(f"topic-{n}") for n in range(2_000)]
    assert len(set(found)) == 255


def test_an_offset_that_does_not_fit_is_refused() -> None:
    """It would look like the record of another topic, and its payment would be lost."""
    assert len(origins(3, np.array([2**40 - 1]))) == 1
    with pytest.raises(ValueError, match=r"partition 3 .* has reached offset 1099511627776"):
        origins(3, np.array([5, 2**40]))
