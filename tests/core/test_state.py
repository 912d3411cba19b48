"""The state that recovery persists: it comes back as it was, or not at all."""

import pickle

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.core import state as state_module
from dataflow.core.state import VERSION, SourceState, State, pack, unpack
from dataflow.errors import StartRefusedError
from tests.support import first_uses

counts = st.integers(0, 2**48)
source_states = st.builds(
    SourceState,
    cluster=st.text(),
    topic=st.text(),
    group=st.text(),
    lanes=counts,
    start_offset=counts,
    next_offset=counts,
    topic_id=st.none() | st.text(),
    position=counts,
)
SOURCE = SourceState(
    cluster="c",
    topic="t",
    group="g",
    lanes=8,
    start_offset=0,
    next_offset=5,
)


@given(source_states)
def test_a_source_comes_back_as_it_was(state: SourceState) -> None:
    assert unpack(pack(state), SourceState) == state


def test_a_state_has_its_version_and_names_its_fields() -> None:
    """By name, so that a field that is added or moved does not shift the others."""
    assert msgspec.msgpack.decode(pack(SOURCE)) == {
        "version": VERSION,
        "cluster": "c",
        "topic": "t",
        "topic_id": None,
        "group": "g",
        "lanes": 8,
        "start_offset": 0,
        "next_offset": 5,
        "position": 0,
    }


class WithMore(SourceState, kw_only=True, frozen=True):
    """The state as a later release may extend it."""

    paused: bool = False


def test_a_field_that_was_added_has_its_default_in_an_older_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoder = msgspec.msgpack.Decoder(WithMore)
    monkeypatch.setattr(state_module, "_DECODERS", state_module._DECODERS | {WithMore: decoder})
    state = unpack(pack(SOURCE), WithMore)
    assert (state.next_offset, state.paused) == (5, False)


def test_a_field_that_was_added_is_ignored_by_an_older_release() -> None:
    newer = WithMore(
        cluster="c", topic="t", group="g", lanes=8, start_offset=0, next_offset=7, paused=True
    )
    assert unpack(pack(newer), SourceState).next_offset == 7


def test_an_older_version_which_kept_the_ids_is_refused() -> None:
    older = msgspec.msgpack.encode({"version": 1, "ledger": {}})
    with pytest.raises(StartRefusedError, match=r"before the paymentIds were kept in Kafka .* 1,"):
        unpack(older, SourceState)


def test_a_newer_version_is_refused() -> None:
    newer = msgspec.msgpack.encode({"version": VERSION + 1, "all": "different"})
    with pytest.raises(StartRefusedError, match=r"newer version \(state version 3, .* version 2\)"):
        unpack(newer, SourceState)


@pytest.mark.parametrize(
    "snapshot",
    [
        pickle.dumps({"version": 1}),
        pickle.dumps(7),
        msgspec.json.encode(SOURCE),
        msgspec.msgpack.encode([1, 2, 3]),
        msgspec.msgpack.encode({}),
        msgspec.msgpack.encode({"version": "1"}),
        pack(State()),
        pack(SOURCE)[:-1],
        pack(SOURCE) + b"\0",
        b"",
        None,
        7,
        {"version": 1},
        SOURCE,
    ],
    ids=str,
)
def test_foreign_content_is_refused(snapshot: object) -> None:
    with pytest.raises(StartRefusedError, match="snapshot that is not ours"):
        unpack(snapshot, SourceState)


@given(st.binary())
def test_no_bytes_raise_anything_else(snapshot: bytes) -> None:
    with pytest.raises(StartRefusedError):
        unpack(snapshot, SourceState)


def test_a_state_without_fields_is_just_its_version() -> None:
    assert unpack(pack(State()), State) == State(version=VERSION)


PACKED = """
from dataflow.core.state import SourceState, pack, unpack
packed = pack(SourceState(
    cluster="c", topic="t", group="g", lanes=4, start_offset=0, next_offset=5
))
"""


def test_several_workers_may_unpack_the_first_states_at_once() -> None:
    first_uses.assert_safe(PACKED, "unpack(packed, SourceState)")
