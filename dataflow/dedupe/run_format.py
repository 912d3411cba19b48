"""The format of a run: an immutable file of sorted entries, with a filter that spares searches.

    page 0      the header: sizes, dates, checksums
    filter      a Bloom filter of 12 bits an id (`dataflow.core.bloom`), filled up to a page
    blocks      pages of 113 entries, sorted by the second word of the key, then the first
    index       the first key of each block

All numbers are little-endian. A block is one page of 4096 bytes: five columns of 113 numbers
(second words, first words, fingerprints, origins, dates in seconds), its number, the id of the run,
and a CRC-32 of all that. So a search touches one page; a page that belongs somewhere else, or to
an older file, is as wrong as a damaged one.

37.9 bytes an id: 36.2 of blocks, 1.5 of filter, 0.1 of index. A directory takes more: what a merge
makes is beside what it is made of until it is done, and runs leave the window late, as a whole (see
`dataflow.core.run_policy`).
"""

import os
import struct
from typing import NamedTuple
from zlib import crc32

import numpy as np

FORMAT = 1
PAGE = 4096
ROWS = 113
"""Entries of a block."""
CHECKED = PAGE - 4
BLOCK = np.dtype(
    {
        "names": [
            *("word_1", "word_0", "fingerprint", "origin", "date_s"),
            *("number", "run_id", "check"),
        ],
        "formats": [*[("<u8", ROWS)] * 4, ("<u4", ROWS), "<u4", "<u8", "<u4"],
        "offsets": [0, ROWS * 8, ROWS * 16, ROWS * 24, ROWS * 32, ROWS * 36, 4072, CHECKED],
        "itemsize": PAGE,
    }
)
_HEADER = struct.Struct("<8sIIQQQQIIII")
_MAGIC = b"PAYMTRUN"
PIECE = 256
"""Blocks that are read or written at once: a megabyte."""


class DamagedRunError(Exception):
    """A file is not what was written; `str` names the error."""


class RunFacts(NamedTuple):
    """The content of a run's header."""

    run_id: int
    rows: int
    filter_words: int
    size_bytes: int
    oldest_s: int
    newest_s: int
    filter_check: int
    index_check: int

    def header(self) -> bytes:
        """Return the header's bytes."""
        return _HEADER.pack(_MAGIC, FORMAT, ROWS, *self)

    @property
    def check(self) -> int:
        """A checksum of the header, and so, through its checksums, of all but the blocks."""
        return crc32(self.header())


class Layout(NamedTuple):
    """The offsets at which the parts of a run begin."""

    filter_at: int
    blocks_at: int
    index_at: int
    end: int


def layout_of(filter_words: int, blocks: int) -> Layout:
    """Return where the parts of a run begin that has so much of them."""
    blocks_at = PAGE + -(-filter_words * 8 // PAGE) * PAGE
    index_at = blocks_at + blocks * PAGE
    return Layout(PAGE, blocks_at, index_at, index_at + blocks * 16)


def read_facts(file: int, check: int) -> RunFacts:
    """Read the header of an open file; `check` is `RunFacts.check` of the run that is expected.

    Raises:
        DamagedRunError: it is not that run.
    """
    header = os.pread(file, _HEADER.size, 0)
    if len(header) != _HEADER.size or crc32(header) != check:
        raise DamagedRunError("its header is not that of the run in the manifest")
    magic, layout, rows, *facts = _HEADER.unpack(header)
    if (magic, layout, rows) != (_MAGIC, FORMAT, ROWS):
        raise DamagedRunError("it has another format")
    return RunFacts(*facts)
