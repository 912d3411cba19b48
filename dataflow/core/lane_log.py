"""The records of a lane's log: which ids a lane has claimed, and when each was last seen.

- An *entry* has a fixed size and stands alone: the id's key, the fingerprint and the origin of the
  request that claimed it, and the date until which nothing shortens its life. Of several entries
  for one id the one with the newest date counts. So neither the order of the records, nor their
  partitions, nor the number of lanes matters to who reads them.
- A record's value is nothing but entries; or it is empty, and only its timestamp matters: see
  `dataflow.core.watermarks`. Its headers name the version of their layout, the lane, and how many
  lanes there were.
- It is written in a transaction of the lane. A process that is fenced and has not noticed reads on:
  its claims are dated later than those of its successor, and would count.
- A record has no key: a topic that was made compacted refuses it, instead of deleting entries.
- A record without these headers was not written by a lane: Kafka keeps headers and value together,
  under one checksum. It claims nothing, so it can be passed over. A record that has them, but not
  what belongs to them, may claim ids that are then charged again: it must not be.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflow.core.lanes import KeyArray, U64Array
from schemas.headers import Headers

VERSION = 2
_READABLE = {1, 2}
"""The first version claimed what it decided in the same transaction. It would take what this one
has claimed, and not decided, for duplicates: so it has to refuse the log."""
ENTRY = np.dtype(
    [("key", "<u8", (2,)), ("fingerprint", "<u8"), ("origin", "<u8"), ("date_s", "<u4")]
)
"""`date_s` is in seconds since 1970."""
Entries = NDArray[Any]
"""Of the type `ENTRY`."""

_RECORD_BYTES = 512 * 1024
"""A record is as large at most: one for an epoch, or a few of a large one."""
_RECORD_OVERHEAD_BYTES = 1024
"""Headers and framing, which count towards the broker's limit."""
_LANE = "lane"
_LANES = "lanes"
_VERSION = "version"


class ForeignRecordError(ValueError):
    """A record has a lane's headers, and is damaged or of a layout that is not known here."""


def entries_of(
    keys: KeyArray, fingerprints: U64Array, origins: U64Array, dates_s: NDArray[Any] | int
) -> Entries:
    """Return entries of aligned columns; one date may be that of all."""
    entries = np.empty(len(keys), ENTRY)
    entries["key"] = keys
    entries["fingerprint"] = fingerprints
    entries["origin"] = origins
    entries["date_s"] = dates_s
    return entries


def most_record_bytes(message_max_bytes: int) -> int:
    """Return how large the value of a record may be, by the largest record that Kafka takes."""
    return min(message_max_bytes - _RECORD_OVERHEAD_BYTES, _RECORD_BYTES)


def newest_ms(value: bytes) -> int:
    """Return the timestamp of a record with these entries: it is as old as the newest of them.

    By that the log is trimmed.
    """
    return int(entries_in(value)["date_s"].max()) * 1000


def pieces(entries: bytes, most_bytes: int) -> Iterator[bytes]:
    """Yield the values of the records that hold these entries, each of at most so many bytes."""
    step = most_bytes // ENTRY.itemsize * ENTRY.itemsize
    return (entries[start : start + step] for start in range(0, len(entries), step))


def headers(lane: int, lanes: int) -> Headers:
    """Return the headers of a lane's records, where there are so many lanes."""
    return [(_VERSION, b"%d" % VERSION), (_LANE, b"%d" % lane), (_LANES, b"%d" % lanes)]


def is_of_a_lane(headers: Any) -> bool:
    """Return whether a lane has written the record with these headers."""
    return dict(headers or ()).keys() >= {_VERSION, _LANE, _LANES}


def without_the_lane(headers: Headers) -> Headers:
    """Return the headers of a lane's record that are not about the lane."""
    return [header for header in headers if header[0] not in {_VERSION, _LANE, _LANES}]


def lane_in(headers: Any) -> tuple[int, int]:
    """Return the lane that wrote a record, and how many lanes there were.

    Raises:
        ForeignRecordError: the headers are damaged, or those of another layout.
    """
    found = dict(headers or ())
    try:
        version, lane, lanes = (int(found[name] or b"") for name in (_VERSION, _LANE, _LANES))
    except (KeyError, ValueError) as error:
        raise ForeignRecordError("its headers are damaged") from error
    if version not in _READABLE:
        raise ForeignRecordError(f"its layout is version {version}, this is version {VERSION}")
    return lane, lanes


def entries_in(value: bytes) -> Entries:
    """Return the entries of one record, or of several joined ones.

    Raises:
        ForeignRecordError: it does not hold a whole number of entries.
    """
    if len(value) % ENTRY.itemsize:
        raise ForeignRecordError(f"{len(value)} bytes are no whole number of entries")
    return np.frombuffer(value, ENTRY)


def sorted_newest(entries: Entries) -> Entries:
    """Return the newest entry of each key, sorted by the second word of the key, then the first.

    The second word, because the first one chose the lane. Few keys have several entries, and fewer
    share a word with another: only those are compared as a whole.
    """
    words = np.ascontiguousarray(entries["key"][:, 1])
    # Stable: what is merged consists of few sorted parts, which this kind makes use of.
    order = np.argsort(words, kind="stable")
    words = words[order]
    same = words[1:] == words[:-1]
    if not same.any():
        return entries.take(order)  # many times as fast as by an index
    shared = np.zeros(len(order), np.bool_)
    shared[1:] |= same
    shared[:-1] |= same
    places = np.flatnonzero(shared)
    rest = entries.take(order[places])
    by_date = np.lexsort((rest["date_s"], rest["key"][:, 0], rest["key"][:, 1]))
    order[places] = order[places[by_date]]  # equal words stand together, so their places are theirs
    keys = rest["key"][by_date]
    kept = np.ones(len(order), np.bool_)
    # The last one of each key is the newest.
    kept[places[:-1]] = (keys[1:] != keys[:-1]).any(axis=1)
    return entries.take(order[kept])
