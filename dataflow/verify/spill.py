"""Rows in files: spread by a hash, read back one file at a time.

Sorted runs would have to be merged, an index would have to be kept in memory; here rows are only
appended, and whatever has to be compared is in one file that fits into memory.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dataflow.verify.rows import Rows

_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


class Spill:
    """The rows of one table.

    Args:
        directory: Where the files are; it must exist.
        name: Of the table.
        dtype: Of its rows.
        parts: How many files.
    """

    def __init__(self, directory: Path, name: str, dtype: np.dtype[Any], parts: int) -> None:
        self._paths = [directory / f"{name}-{part:05d}" for part in range(parts)]
        self._dtype = dtype

    def append(self, rows: Rows, spread: NDArray[np.uint64]) -> None:
        """Keep rows; those with an equal `spread` come into the same file."""
        if not len(rows):
            return
        # The upper half of the product depends on all of `spread`.
        parts = ((spread * _MIX) >> _HALF) % np.uint64(len(self._paths))
        order = np.argsort(parts, kind="stable")
        rows, parts = rows[order], parts[order]
        starts = np.flatnonzero(np.append(True, parts[1:] != parts[:-1]))
        for start, end in zip(starts, np.append(starts[1:], len(rows)), strict=True):
            with self._paths[int(parts[start])].open("ab") as file:
                file.write(rows[start:end].tobytes())

    def load(self, part: int) -> Rows:
        """Return the rows of one file, in the order in which they were appended."""
        path = self._paths[part]
        if not path.exists():
            return np.empty(0, self._dtype)
        return np.fromfile(path, self._dtype)

    def drop(self, part: int) -> None:
        """Remove one file: its space is needed for the next table."""
        self._paths[part].unlink(missing_ok=True)
