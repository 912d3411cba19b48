"""Two readings of the same topics: what a `read_committed` reader has seen, it never un-sees.

Of each record its offset and a hash are kept, in the order of reading; a file for each partition.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np

from dataflow.verify.findings import EXAMPLES, FindingKind, Findings, RecordPlace
from dataflow.verify.reader import Chunk
from dataflow.verify.rows import Rows

_SEEN = np.dtype([("offset", "<i8"), ("hash", "<u8")])
_BLOCK = 1 << 18
_pack = msgspec.msgpack.Encoder().encode

Partition = tuple[str, int]
"""Topic and partition."""


class Reading:
    """The records that one reader has seen.

    Args:
        directory: Where to keep it; it must exist, and be for this reading alone.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._paths: dict[Partition, Path] = {}
        self._last: dict[Partition, int] = {}
        self.records = 0

    def add(self, topic: str, chunk: Chunk) -> None:
        """Add some records, as they came."""
        seen = np.empty(len(chunk.offsets), _SEEN)
        seen["offset"] = chunk.offsets
        content = zip(chunk.times_ms, chunk.keys, chunk.values, strict=True)
        # A client that starts again sees some records twice.
        where = topic, chunk.partition
        new = seen["offset"] > self._last.get(where, -1)
        joined = b"".join([blake2b(_pack(each), digest_size=8).digest() for each in content])
        seen["hash"] = np.frombuffer(joined, "<u8")
        if not new.any():
            return
        self._last[where] = chunk.offsets[-1]
        path = self._paths.setdefault(where, self._directory / f"{len(self._paths):05d}")
        with path.open("ab") as file:
            file.write(seen[new].tobytes())
        self.records += int(np.count_nonzero(new))

    def partitions(self) -> set[Partition]:
        """Return the partitions in which there was anything."""
        return set(self._paths)

    def blocks(self, where: Partition, low: int) -> Iterator[Rows]:
        """Yield what was seen in a partition from `low` on, some at a time."""
        path = self._paths.get(where)
        if path is None:
            return
        with path.open("rb") as file:
            while True:
                block = np.frombuffer(file.read(_BLOCK * _SEEN.itemsize), _SEEN)
                if not len(block):
                    return
                yield block[block["offset"] >= low]


def compare(
    first: Reading, second: Reading, lows: dict[Partition, int], findings: Findings
) -> None:
    """Find what they do not have in common, as far as the first one has come in each partition.

    Args:
        first: Made while things happened.
        second: Made afterwards, of everything.
        lows: Below these offsets retention may have deleted what the first reading saw.
        findings: Gets what is wrong.
    """
    for where in sorted(first.partitions() | second.partitions()):
        low = lows.get(where, 0)
        _compare(where, first.blocks(where, low), second.blocks(where, low), findings)


def _compare(
    where: Partition, first: Iterator[Rows], second: Iterator[Rows], findings: Findings
) -> None:
    nothing = np.empty(0, _SEEN)
    ours, theirs = nothing, nothing
    while True:
        if not len(ours):
            ours = next(first, nothing)
        if not len(theirs):
            theirs = next(second, nothing)
        if not (len(ours) and len(theirs)):
            break
        # As far as both go.
        upto = min(ours["offset"][-1], theirs["offset"][-1])
        cut, other_cut = (np.searchsorted(each["offset"], upto, "right") for each in (ours, theirs))
        _compare_block(where, ours[:cut], theirs[:other_cut], findings)
        ours, theirs = ours[cut:], theirs[other_cut:]
    for block in (ours, *first):
        _add(findings, "was there at first, and is not there any more", where, block["offset"])
    # What else the second one has is beyond the point at which the first one ended.


def _compare_block(where: Partition, ours: Rows, theirs: Rows, findings: Findings) -> None:
    _, mine, other = np.intersect1d(
        ours["offset"], theirs["offset"], assume_unique=True, return_indices=True
    )
    gone = np.delete(ours["offset"], mine)
    _add(findings, "was there at first, and is not there any more", where, gone)
    new = np.delete(theirs["offset"], other)
    _add(findings, "appeared below what had been read before", where, new)
    changed = ours["hash"][mine] != theirs["hash"][other]
    _add(findings, "was something else at first", where, ours["offset"][mine][changed])


def _add(findings: Findings, text: str, where: Partition, offsets: Rows) -> None:
    places = [RecordPlace(*where, offset) for offset in offsets[:EXAMPLES].tolist()]
    findings.add_all(FindingKind.UNSEEN, text, len(offsets), places)
