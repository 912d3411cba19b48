"""The writing of a run: see `run_format`."""

from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np

from dataflow.core import bloom
from dataflow.core.lane_log import ENTRY, Entries
from dataflow.core.lanes import KeyArray, U64Array
from dataflow.dedupe.run_format import BLOCK, CHECKED, PAGE, PIECE, ROWS, RunFacts, layout_of
from dataflow.dedupe.writing import NewFile


class RunWriter:
    """A writer of a run, from sorted entries that come piece by piece.

    Args:
        path: The file's name.
        most_rows: At most so many entries come; the filter is made for so many.
        run_id: Any number that no other run has.

    Raises:
        OSError: from here and from each method, if the disk is full or failing.
    """

    def __init__(self, path: Path, most_rows: int, run_id: int) -> None:
        self._run_id = run_id
        self._words = bloom.words_for(most_rows)
        self._most = layout_of(self._words, -(-most_rows // ROWS))
        self._filter = bloom.FilterWriter(self._words)
        self._filter_at = self._most.filter_at
        self._filter_check = 0
        self._left = np.empty(0, ENTRY)
        self._firsts: list[KeyArray] = []
        self._blocks = self._rows = 0
        self._oldest_s, self._newest_s = 2**32 - 1, 0
        self._file = NewFile(path, self._most.end)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__(None, None, None)

    def append(self, entries: Entries) -> None:
        """Write entries, in ascending order over all calls, no two of one key."""
        for start in range(0, len(entries), PIECE * ROWS):
            piece = entries[start : start + PIECE * ROWS]
            self._write_filter(self._filter.add(np.ascontiguousarray(piece["key"])))
            self._oldest_s = min(self._oldest_s, int(piece["date_s"].min()))
            self._newest_s = max(self._newest_s, int(piece["date_s"].max()))
            self._rows += len(piece)
            piece = np.concatenate([self._left, piece])
            whole = len(piece) // ROWS * ROWS
            self._write_blocks(piece[:whole])
            self._left = piece[whole:]

    def publish(self) -> RunFacts | None:
        """Complete the file; None, and no file, if there was no entry."""
        if not self._rows:
            return None
        self._write_blocks(self._left)
        self._write_filter(self._filter.rest())
        index = np.concatenate(self._firsts).tobytes()
        layout = layout_of(self._words, self._blocks)
        self._file.write(index, layout.index_at)
        facts = RunFacts(
            run_id=self._run_id,
            rows=self._rows,
            filter_words=self._words,
            size_bytes=layout.end,
            oldest_s=self._oldest_s,
            newest_s=self._newest_s,
            filter_check=self._filter_check,
            index_check=crc32(index),
        )
        self._file.write(facts.header(), 0)
        self._file.publish(layout.end)
        return facts

    def _write_filter(self, words: U64Array) -> None:
        data = words.astype("<u8", copy=False).tobytes()
        self._filter_check = crc32(data, self._filter_check)
        self._file.write(data, self._filter_at)
        self._filter_at += len(data)

    def _write_blocks(self, entries: Entries) -> None:
        count = -(-len(entries) // ROWS)
        if not count:
            return
        filled = np.zeros(count * ROWS, ENTRY)
        filled[: len(entries)] = entries
        rows = filled.reshape(count, ROWS)
        blocks = np.zeros(count, BLOCK)
        blocks["word_1"], blocks["word_0"] = rows["key"][:, :, 1], rows["key"][:, :, 0]
        for name in ("fingerprint", "origin", "date_s"):
            blocks[name] = rows[name]
        blocks["number"] = np.arange(self._blocks, self._blocks + count)
        blocks["run_id"] = self._run_id
        pages = blocks.view(np.uint8).reshape(count, PAGE)
        blocks["check"] = [crc32(page) for page in pages[:, :CHECKED]]
        self._file.write(blocks.tobytes(), self._most.blocks_at + self._blocks * PAGE)
        self._firsts.append(np.ascontiguousarray(rows["key"][:, 0]))
        self._blocks += count
