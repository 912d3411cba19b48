"""A filter never denies a key that was put in, and seldom takes another one for it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core.bloom import BITS_AN_ID, FilterWriter, maybe, probes, words_for
from dataflow.core.lanes import KeyArray, U64Array


def random_keys(count: int, seed: int, lanes: int = 1) -> KeyArray:
    keys = np.random.default_rng(seed).integers(0, 2**64, (count, 2), np.uint64)
    keys[:, 0] -= keys[:, 0] % np.uint64(lanes)  # all of one lane
    return keys[np.argsort(keys[:, 1])]


def filter_of(keys: KeyArray, size: int, pieces: int = 1) -> U64Array:
    writer = FilterWriter(size)
    parts = [writer.add(piece) for piece in np.array_split(keys, pieces)]
    return np.concatenate([*parts, writer.rest()])


@pytest.mark.parametrize("lanes", [1, 16, 1000, 2**16])
def test_one_in_a_hundred_unknown_keys_passes(lanes: int) -> None:
    """Also where the lane has chosen the low bits of the first word."""
    known, unknown = random_keys(100_000, 1, lanes), random_keys(100_000, 2, lanes)
    words = filter_of(known, words_for(len(known)))
    assert len(words) * 64 <= len(known) * BITS_AN_ID + 64
    assert len(maybe(words, probes(known))) == len(known)
    assert len(maybe(words, probes(unknown))) < 1_600


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=30),
    st.integers(1, 40),
    st.integers(1, 5),
)
def test_a_filter_made_in_pieces_has_every_key(
    given: list[tuple[int, int]], size: int, pieces: int
) -> None:
    keys = np.array(sorted(given, key=lambda key: key[1]), np.uint64).reshape(-1, 2)
    words = filter_of(keys, size, pieces)
    assert len(words) == size
    assert np.array_equal(words, filter_of(keys, size))
    assert maybe(words, probes(keys)).tolist() == list(range(len(keys)))


def test_an_empty_filter_has_no_key() -> None:
    words = filter_of(random_keys(0, 1), words_for(0))
    assert maybe(words, probes(random_keys(1000, 1))).tolist() == []
