"""The state that recovery persists. Later versions read it: fields are added, never changed.

States are MessagePack maps, so that neither an inserted field nor a moved class can shift what an
older snapshot means; a snapshot of an unknown version is refused.

Version 1, of before the first release, kept the paymentIds here; nothing reads it any more.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dataflow.errors import StartRefusedError

VERSION = 2

_State = TypeVar("_State", bound="State")


class State(Struct, kw_only=True, frozen=True):
    """A snapshot of one state key."""

    version: int = VERSION


class SourceState(State, kw_only=True, frozen=True):
    """The position of one input partition."""

    cluster: str
    """The Kafka cluster's id: a snapshot of another cluster means nothing here."""
    topic: str
    topic_id: str | None = None
    """It has another one once it is deleted and created again."""
    group: str
    lanes: int
    start_offset: int
    """The offset at which reading began when there was no snapshot."""
    next_offset: int
    """The first record that is not part of this snapshot."""
    position: int = 0
    """The next offset to read: from `next_offset` up to it there were no records, only markers."""


# Made here, not at their first use: that may be by several workers at once, and msgspec (0.22) then
# crashes, as one of them finds what it needs of a type half made by another.
_DECODERS: dict[type[State], Any] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (State, SourceState)
}


def pack(state: State) -> bytes:
    """Return the bytes that recovery keeps."""
    return msgspec.msgpack.encode(state)


def unpack(packed: object, kind: type[_State]) -> _State:
    """Return the state in a snapshot.

    Raises:
        StartRefusedError: the snapshot was not written by this product, or by another version.
    """
    snapshot = packed if isinstance(packed, bytes) else b""
    try:
        version: int = _DECODERS[State].decode(snapshot).version
        if version == VERSION:
            state: _State = _DECODERS[kind].decode(snapshot)
            return state
    except msgspec.DecodeError as error:
        raise StartRefusedError(
            f"The recovery directory holds a snapshot that is not ours ({error}). Point"
            " BYTEWAX_RECOVERY_DIRECTORY at this flow's own directory, or at an empty one."
        ) from error
    if version < VERSION:
        raise StartRefusedError(
            f"The recovery directory was written before the paymentIds were kept in Kafka (state"
            f" version {version}, this one is {VERSION}). They are not taken over: point"
            " BYTEWAX_RECOVERY_DIRECTORY at an empty directory, which forgets them."
        )
    raise StartRefusedError(
        f"The recovery directory was written by a newer version (state version {version}, this"
        f" one reads version {VERSION}). Start the newer version, or point"
        " BYTEWAX_RECOVERY_DIRECTORY at an empty directory: nothing is lost with it."
    )
