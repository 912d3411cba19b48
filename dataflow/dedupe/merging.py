"""Several runs into one, in little memory: a piece of each is read at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from dataflow.core.lane_log import ENTRY, Entries, sorted_newest
from dataflow.dedupe.run import Run


def merged(runs: Sequence[Run], horizon_s: int) -> Iterator[Entries]:
    """Yield the newest entry of each key, in order; not those dated before the horizon.

    Raises:
        DamagedRunError: a run is not as it was written. Its message names the run.
    """
    parts = [_Part(run) for run in runs]
    while True:
        for part in parts:
            part.fill()
        unfinished = [part for part in parts if not part.finished]
        if unfinished:
            # Up to here all of them are read. Without the last word, as it may go on.
            cut = min(part.last_word() for part in unfinished)
            heads = [part.below(cut) for part in parts]
        else:
            heads = [part.all() for part in parts]
        entries = sorted_newest(np.concatenate(heads))
        yield entries.take((entries["date_s"] >= horizon_s).nonzero()[0])
        if not unfinished:
            return
        if not len(entries):
            for part in unfinished:
                part.read()


class _Part:
    """The entries that were read of a run, and not merged yet."""

    def __init__(self, run: Run) -> None:
        self._pieces = run.pieces()
        self._rows: Entries = np.empty(0, ENTRY)
        self.finished = False

    def fill(self) -> None:
        """Have something, if there is anything left."""
        if not len(self._rows):
            self.read()

    def read(self) -> None:
        """Read one more piece."""
        piece = next(self._pieces, None)
        if piece is None:
            self.finished = True
        else:
            self._rows = np.concatenate([self._rows, piece])

    def last_word(self) -> np.uint64:
        """Return the second word of the last key that was read."""
        word: np.uint64 = self._rows["key"][-1, 1]
        return word

    def below(self, cut: np.uint64) -> Entries:
        """Hand over the entries below a second word."""
        end = int(np.searchsorted(self._rows["key"][:, 1], cut))
        head, self._rows = self._rows[:end], self._rows[end:]
        return head

    def all(self) -> Entries:
        """Hand over the rest."""
        head, self._rows = self._rows, self._rows[:0]
        return head
