"""What recovery persists: it comes back as it was, or not at all."""

import pickle
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.errors import StartRefusedError
from schemas.state import (
    VERSION,
    LedgerState,
    SegmentRange,
    SegmentState,
    SourceState,
    State,
    pack,
    unpack,
)

counts = st.integers(0, 2**48)
ranges = st.builds(
    SegmentRange,
    number=counts,
    first_offset=counts,
    end_offset=counts,
    records=counts,
    opened_ms=counts,
    newest_ms=counts,
)
source_states = st.builds(
    SourceState,
    cluster=st.text(),
    topic=st.text(),
    group=st.text(),
    lanes=counts,
    start_offset=counts,
    next_offset=counts,
    ledger=st.builds(
        LedgerState,
        next_number=counts,
        stream_time_ms=counts,
        segments=st.lists(ranges, max_size=3).map(tuple),
    ),
)
segment_states = st.builds(
    SegmentState,
    identities=st.binary(),
    base_offset=counts,
    offsets=st.binary(),
    runs=st.lists(st.tuples(counts, counts), max_size=3).map(tuple),
)
SOURCE = SourceState(
    cluster="c",
    topic="t",
    group="g",
    lanes=8,
    start_offset=0,
    next_offset=5,
    ledger=LedgerState(),
)
SEGMENT = SegmentState(identities=b"i" * 24, base_offset=7, offsets=b"\0" * 4, runs=((1, 9),))


@given(source_states)
def test_a_source_comes_back_as_it_was(state: SourceState) -> None:
    assert unpack(pack(state), SourceState) == state


@given(segment_states)
def test_a_segment_comes_back_as_it_was(state: SegmentState) -> None:
    assert unpack(pack(state), SegmentState) == state


def test_a_state_says_its_version_and_names_its_fields() -> None:
    """By name, so that a field that is added or moved does not shift the others."""
    assert msgspec.msgpack.decode(pack(SEGMENT)) == {
        "version": VERSION,
        "identities": b"i" * 24,
        "base_offset": 7,
        "offsets": b"\0" * 4,
        "runs": [[1, 9]],
    }


class WithMore(SegmentState, kw_only=True, frozen=True):
    """What a later release may make of it."""

    compressed: bool = False


def test_a_field_that_was_added_has_its_default_in_an_older_snapshot() -> None:
    state = unpack(pack(SEGMENT), WithMore)
    assert (state.identities, state.compressed) == (SEGMENT.identities, False)


def test_a_field_that_was_added_is_ignored_by_an_older_release() -> None:
    newer = WithMore(identities=b"", base_offset=7, offsets=b"", runs=(), compressed=True)
    assert unpack(pack(newer), SegmentState).base_offset == 7


def test_a_newer_version_is_refused() -> None:
    newer = msgspec.msgpack.encode({"version": VERSION + 1, "all": "different"})
    with pytest.raises(StartRefusedError, match=r"newer version \(state version 2, .* up to 1\)"):
        unpack(newer, SegmentState)


@pytest.mark.parametrize(
    "snapshot",
    [
        pickle.dumps({"version": 1}),
        pickle.dumps(7),
        msgspec.json.encode(SEGMENT),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode({"version": "1"}),
        pack(SOURCE),
        pack(SEGMENT)[:-1],
        pack(SEGMENT) + b"\0",
        b"",
        None,
        7,
        {"version": 1},
        SEGMENT,
    ],
    ids=str,
)
def test_what_is_not_ours_is_refused(snapshot: object) -> None:
    with pytest.raises(StartRefusedError, match="snapshot that is not ours"):
        unpack(snapshot, SegmentState)


@given(st.binary())
def test_no_bytes_raise_anything_else(snapshot: bytes) -> None:
    with pytest.raises(StartRefusedError):
        unpack(snapshot, SegmentState)


def test_a_state_without_fields_is_just_its_version() -> None:
    assert unpack(pack(State()), State) == State(version=VERSION)


MANY_WORKERS = """
import os, sys, threading
from schemas.state import LedgerState, SourceState, pack, unpack
packed = pack(SourceState(
    cluster="c", topic="t", group="g", lanes=4, start_offset=0, next_offset=5, ledger=LedgerState()
))
sys.setswitchinterval(1e-6)
for _ in range(50):
    if os.fork() == 0:  # each time it is the first time
        begin = threading.Barrier(6)
        def work():
            begin.wait()
            unpack(packed, SourceState)
        workers = [threading.Thread(target=work) for _ in range(6)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        os._exit(0)
    assert os.wait()[1] == 0, "crashed"
"""


def test_several_workers_may_unpack_the_first_states_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MANY_WORKERS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
