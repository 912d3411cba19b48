"""What recovery persists. Read by later versions of this code: fields are added, never changed.

States are MessagePack maps, so that neither an inserted field nor a moved class can shift what an
older snapshot means; a snapshot of an unknown version is refused.
"""

from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from dataflow.errors import StartRefusedError

VERSION = 1

_State = TypeVar("_State", bound="State")


class State(Struct, kw_only=True, frozen=True):
    """A snapshot of one state key."""

    version: int = VERSION


class SegmentRange(Struct, kw_only=True, frozen=True):
    """One segment of a partition's memory, as its source knows it."""

    number: int
    first_offset: int
    end_offset: int
    """The offset after its last record."""
    records: int
    """Input records that belong to it, valid or not."""
    opened_ms: int
    newest_ms: int
    """Time of the newest record when it was opened, and now, in milliseconds since 1970."""


class LedgerState(Struct, kw_only=True, frozen=True):
    """Which segments remember a partition's ids."""

    next_number: int = 0
    stream_time_ms: int = 0
    """How far all of its records have come, in milliseconds since 1970."""
    segments: tuple[SegmentRange, ...] = ()
    """Living segments, oldest first; the last one is being written."""


class SourceState(State, kw_only=True, frozen=True):
    """Where one input partition stands, and what remembers its ids."""

    cluster: str
    """The Kafka cluster's id: a snapshot of another cluster means nothing here."""
    topic: str
    group: str
    lanes: int
    start_offset: int
    """Where reading began when there was no snapshot."""
    next_offset: int
    """The first record that is not part of this snapshot."""
    ledger: LedgerState


class SegmentState(State, kw_only=True, frozen=True):
    """The remembered ids of one segment, in the order of their offsets."""

    identities: bytes
    """`PaymentRequest.identity` of each, 24 bytes."""
    base_offset: int
    offsets: bytes
    """Distance of each one's offset from `base_offset`, little-endian uint32."""
    runs: tuple[tuple[int, int], ...]
    """(number of ids, when they were read in milliseconds since 1970) of each batch."""


# Made here, not at their first use: that may be by several workers at once, and msgspec (0.22) then
# crashes, as one of them finds what it has to know of a type half made by another.
_DECODERS: dict[type[State], Any] = {
    kind: msgspec.msgpack.Decoder(kind) for kind in (State, SourceState, SegmentState)
}


def pack(state: State) -> bytes:
    """The bytes that recovery keeps."""
    return msgspec.msgpack.encode(state)


def unpack(packed: object, kind: type[_State]) -> _State:
    """The state in a snapshot.

    Raises:
        StartRefusedError: the snapshot was not written by this product, or by a newer version.
    """
    snapshot = packed if isinstance(packed, bytes) else b""
    try:
        version: int = _DECODERS[State].decode(snapshot).version
        if version <= VERSION:
            decoder = _DECODERS.get(kind) or msgspec.msgpack.Decoder(kind)
            state: _State = decoder.decode(snapshot)
            return state
    except msgspec.DecodeError as error:
        raise StartRefusedError(
            f"The recovery directory holds a snapshot that is not ours ({error}). Point"
            " BYTEWAX_RECOVERY_DIRECTORY at this flow's own directory, or at an empty one."
        ) from error
    raise StartRefusedError(
        f"The recovery directory was written by a newer version (state version {version}, this"
        f" one reads up to {VERSION}). Start the newer version, or restore an older backup."
    )
