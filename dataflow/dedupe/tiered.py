"""The index of a lane: hot ids in memory, cold ids in files.

1. A batch is judged by the newest entry of each of its ids, whichever tier has it (see
   `dataflow.core.verdicts`). What it changes becomes hot.
2. The hot ids are two generations: one that is open, and one that is being written to a run, and
   is not changed any more. Memory is bounded by that.
3. A generation is closed only at a moment when all of it is committed, so a run never has an entry
   that a crash could undo; the caller marks such moments, with a position in the log.
4. Files are written, merged and deleted by another thread. The owner of the lane only looks whether
   that is done, when it marks a commit. No batch takes a lock.
5. If the disk is full or failing, the open generation grows on in memory, and writing is tried
   again. Nothing is dropped from memory that is not durable.
6. A damaged file is thrown away, and the process ends: the next start reads the log instead.

Long because a tier is never seen alone: each method moves ids between memory and files, and the
rules above hold for both together.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from dataflow.core.bloom import probes
from dataflow.core.hot_ids import HotIds
from dataflow.core.id_counts import IdCounts
from dataflow.core.lane_log import Entries, sorted_newest
from dataflow.core.lanes import KeyArray, U64Array
from dataflow.core.run_policy import RunAge, expired, to_merge
from dataflow.core.verdicts import Batch, Distinct, Known, judge
from dataflow.dedupe.background import Background, Stopped
from dataflow.dedupe.lane_files import LaneFiles, ListedRun
from dataflow.dedupe.manifest import Position, Summary
from dataflow.dedupe.run_format import DamagedRunError
from dataflow.errors import DamagedFileError

_log = structlog.get_logger()

_GENERATION_SHARE = 3
"""A generation may take a third of the memory: there are two, and a third is what growing one and
sorting the other take for a moment."""
_RETRY_S = 10.0


class Seen(NamedTuple):
    """The answer for a batch, in its order."""

    verdicts: NDArray[np.int8]
    """A `Verdict` for each."""
    first_origins: U64Array
    """The origin that claimed the id: its own for a `FIRST`."""
    entries: Entries
    """The entries of the batch to keep: the ids it claimed, and those whose life it prolonged."""


class Figures(NamedTuple):
    """For metrics.

    Ids that were prolonged may be counted more than once, and forgotten ones, until the files that
    have them are merged or deleted.
    """

    hot: int
    """Ids in memory."""
    hot_bytes: int
    cold: int
    """Ids in files."""
    runs: int
    file_bytes: int
    failing_since: float | None
    """By the clock that was given: since when files could not be written."""

    @classmethod
    def of(cls, each: "Sequence[Figures]") -> "Figures":
        """Return those of several indexes together."""
        return cls(
            hot=sum(one.hot for one in each),
            hot_bytes=sum(one.hot_bytes for one in each),
            cold=sum(one.cold for one in each),
            runs=sum(one.runs for one in each),
            file_bytes=sum(one.file_bytes for one in each),
            failing_since=min(
                (one.failing_since for one in each if one.failing_since is not None), default=None
            ),
        )

    @property
    def are_failing(self) -> bool:
        """True if files cannot be written."""
        return self.failing_since is not None


class _Job(NamedTuple):
    """The work of the other thread."""

    writes_ids: bool
    """It makes a run of the closed generation; otherwise it tidies the files."""
    done: "Future[None]"


class TieredIndex:
    """Remembered ids of one lane. Not thread-safe: a lane has one owner.

    Args:
        memory_bytes: Returns what the hot ids may take, as long as files can be written.
        window_s: How long ids are remembered.
        span_s: See `dataflow.core.verdicts`.
        files: Where cold ids go; None keeps all in memory.
        background: Does what takes time.
        clock: Seconds, ascending.

    Attributes:
        since_s: Every id that is remembered is dated at or after this, in seconds since 1970.
    """

    def __init__(
        self,
        memory_bytes: Callable[[], int],
        window_s: int,
        span_s: int,
        files: LaneFiles | None,
        background: Background,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory_bytes = memory_bytes
        self._window_s = window_s
        self._span_s = span_s
        self._files = files
        self._background = background
        self._clock = clock
        self.since_s = 0
        self._counts = IdCounts(span_s)
        if files is not None:
            self._take_over(files)
        self._open = HotIds()
        self._closed: HotIds | None = None
        self._closed_summary = Summary()
        self._since = self.position
        """No entry of the open generation stands below this in the log."""
        self._closed_since: Position = {}
        self._closed_upto: Position = {}
        self._job: _Job | None = None
        if files is not None:
            self._submit(files.warm, writes_ids=False)
        self._retry_at = {True: 0.0, False: 0.0}  # by `_Job.writes_ids`
        self._failing_since: dict[bool, float] = {}  # by `_Job.writes_ids`, too

    def __len__(self) -> int:
        """Return the number of remembered ids; may be too low after files were lost, see `most`."""
        return len(self._counts)

    @property
    def most(self) -> int:
        """The most ids that are remembered: as many as `len`, if all are counted."""
        if self._counts.uncounted_s < self.since_s:
            return len(self)
        figures = self.figures
        return figures.hot + figures.cold

    @property
    def position(self) -> Position:
        """The position to read the log from to have all; see `dataflow.dedupe.manifest`."""
        return dict(self._files.position) if self._files else {}

    @property
    def figures(self) -> Figures:
        """Sizes, for metrics."""
        hot = [each for each in (self._open, self._closed) if each is not None]
        facts = [each.run.facts for each in self._runs]
        return Figures(
            hot=sum(map(len, hot)),
            hot_bytes=sum(each.nbytes for each in hot),
            cold=sum(each.rows for each in facts),
            runs=len(facts),
            file_bytes=sum(each.size_bytes for each in facts),
            failing_since=min(self._failing_since.values(), default=None),
        )

    def observe(
        self, date_s: int, keys: KeyArray, fingerprints: U64Array, origins: U64Array
    ) -> Seen:
        """Judge a batch in its order, and remember it.

        Args:
            date_s: When it was read, in seconds since 1970.
            keys: Hashes of the paymentIds.
            fingerprints: Fingerprints of the contents.
            origins: Where each request stands in the input, as one number.

        Raises:
            DamagedFileError: it could not be judged; start again.
        """
        batch = Batch(max(date_s, self.since_s), keys, fingerprints, origins)
        distinct = Distinct(keys)
        rows, known = self._look_up(distinct.keys)
        judged = judge(batch, distinct, known, self.since_s, self._span_s)
        self._open.put(judged.entries, rows[judged.changed])
        self._counts.add(batch.date_s, len(judged.entries))
        self._counts.remove_all(judged.before_s)
        return Seen(judged.verdicts, judged.first_origins, judged.entries)

    def restore(self, entries: Entries) -> None:
        """Take entries of the log, in any order, from `position` on.

        Raises:
            DamagedFileError: start again.
        """
        entries = sorted_newest(_those(entries, entries["date_s"] >= self.since_s))
        rows, known = self._look_up(np.ascontiguousarray(entries["key"]))
        newer = entries["date_s"] > known.dates_s
        before_s = known.dates_s[newer & (known.dates_s >= self.since_s)]
        entries = _those(entries, newer)
        self._open.put(entries, _those(rows, newer))
        self._counts.add_all(entries["date_s"])
        self._counts.remove_all(before_s)

    def start_over(self, reason: str) -> None:
        """Throw the files away, before anything is restored: they are not of this log.

        Args:
            reason: Why they are not.
        """
        if self._files is not None:
            if self._job is not None:
                self._job.done.exception()  # the files have one user at a time
            self._files.discard(reason)
            self._take_over(self._files)
            self._since = {}

    def committed(self, position: Mapping[int, int], *, wait: bool = False) -> None:
        """Mark a moment when all that was observed or restored is committed.

        Args:
            position: No entry of this lane stands below it in the log that was not observed or
                restored, nor in the files: of each partition, its end at any earlier moment, or
                how far it was read. Too low is no danger, too high would forget ids.
            wait: As long as the log is read, which is faster than files are written: wait until
                memory is within its bound, if the disk allows it, and leave merging for later.

        Raises:
            DamagedFileError: a file is damaged; start again.
        """
        if self._files is None:
            return
        self._look_after(self._files, position, tidy=not wait)
        if not wait:
            return
        while self._job is not None and self._closed is not None and self._is_full():
            self._job.done.exception()
            self._look_after(self._files, position, tidy=False)
        if self._closed is None and not len(self._open):
            self._advance(self._files, position)

    def expire(self, before_s: int) -> None:
        """Forget every id that was not seen since `before_s`, except for a part of a span."""
        self.forget_before(before_s // self._span_s * self._span_s)

    def forget_before(self, since_s: int) -> None:
        """Forget every id that is dated before, as a previous run has done.

        If the window is longer now, and so the spans are, that may be in the midst of a span. What
        was forgotten may be trimmed from the log, so it must never count again.
        """
        if since_s > self.since_s:
            self.since_s = since_s
            self._counts.forget(since_s)
            self._open.sweep(since_s)

    def _take_over(self, files: LaneFiles) -> None:
        """Go on from what a previous process has known of its files."""
        summary = files.summary
        self.since_s = summary.horizon_s
        if summary.span_s in {self._span_s, 0}:
            self._counts = IdCounts(self._span_s, summary.counts, summary.uncounted_s)
        else:
            newest_s = max((each.run.facts.newest_s for each in files.runs), default=-1)
            self._counts = IdCounts(self._span_s, uncounted_s=newest_s)
        self._counts.forget(self.since_s)

    def _look_up(self, keys: KeyArray) -> tuple[NDArray[np.int64], Known]:
        """Return the rows of some keys among the open ids, and what all tiers have of them.

        Args:
            keys: Sorted by their second word, no two alike.
        """
        known = Known(len(keys))
        rows = self._open.rows_of(keys)
        known.add(self._open.found(rows))
        if self._closed is not None:
            known.add(self._closed.found(self._closed.rows_of(keys)))
        if runs := self._runs:
            asked = probes(keys)
            for each in runs:
                try:
                    known.add(each.run.find(keys, asked))
                except DamagedRunError as error:
                    raise self._damaged(each, error) from error
        return rows, known

    @property
    def _runs(self) -> tuple[ListedRun, ...]:
        return self._files.runs if self._files else ()

    def _is_full(self) -> bool:
        limit_bytes = self._memory_bytes() // _GENERATION_SHARE
        return len(self._open) > 0 and self._open.nbytes > limit_bytes

    def _look_after(self, files: LaneFiles, position: Mapping[int, int], *, tidy: bool) -> None:
        if self._job is not None and self._job.done.done():
            job, self._job = self._job, None
            self._finish(job)
        if self._closed is None and self._is_full():
            self._closed, self._open = self._open, HotIds()
            self._closed_since, self._closed_upto = self._since, dict(position)
            self._closed_summary = self._summary()
            self._since = dict(position)
        if self._job is None:
            self._begin(files, tidy=tidy)

    def _advance(self, files: LaneFiles, position: Mapping[int, int]) -> None:
        """Keep how far the log is read, where it had nothing that the files do not have."""
        if self._job is not None:
            self._job.done.exception()
            job, self._job = self._job, None
            self._finish(job)
        if position != files.position and any(position.values()):
            since, summary = dict(position), self._summary()
            self._submit(lambda: files.advance(since, summary), writes_ids=False)
            self._since = since

    def _finish(self, job: _Job) -> None:
        error = job.done.exception()
        if error is None:
            self._failing_since.pop(job.writes_ids, None)
            self._closed = None if job.writes_ids else self._closed
        elif isinstance(error, OSError):
            now = self._clock()
            self._retry_at[job.writes_ids] = now + _RETRY_S
            self._failing_since.setdefault(job.writes_ids, now)
            _log.error(
                "files of remembered ids could not be written; ids stay in memory meanwhile",
                reason=str(error),
                retry_s=_RETRY_S,
            )
        elif isinstance(error, DamagedRunError):
            raise DamagedFileError(_REMEDY) from error
        elif isinstance(error, Stopped):
            self._retry_at[job.writes_ids] = math.inf
        else:
            raise error

    def _begin(self, files: LaneFiles, *, tidy: bool) -> None:
        """Give the other thread what is most urgent, unless that has just failed."""
        now = self._clock()
        if self._closed is not None:
            if now >= self._retry_at[True]:
                ids, since, upto = self._closed, self._closed_since, self._closed_upto
                summary = self._closed_summary
                self._submit(lambda: files.add(ids, since, upto, summary), writes_ids=True)
            return
        if not tidy or now < self._retry_at[False]:
            return
        runs, horizon_s = files.runs, self.since_s
        ages = [RunAge(each.run.facts.rows, each.run.facts.newest_s) for each in runs]
        if old := expired(ages, horizon_s):
            self._submit(lambda: files.drop([runs[n] for n in old], horizon_s), writes_ids=False)
        elif several := to_merge(ages, self._window_s):
            chosen = [runs[n] for n in several]
            self._submit(lambda: files.merge(chosen, horizon_s), writes_ids=False)

    def _summary(self) -> Summary:
        return Summary(
            horizon_s=self.since_s,
            span_s=self._span_s,
            counts=self._counts.by_span(),
            uncounted_s=self._counts.uncounted_s,
        )

    def _submit(self, work: Callable[[], None], *, writes_ids: bool) -> None:
        self._job = _Job(writes_ids, self._background.submit(work))

    def _damaged(self, damaged: ListedRun, error: DamagedRunError) -> DamagedFileError:
        assert self._files is not None
        # The process is to end, and no lane may wait until a merge is done, which takes minutes.
        self._background.stop()
        if self._job is not None:
            self._job.done.exception()  # the files have one user at a time
        self._files.give_up([damaged], str(error))
        return DamagedFileError(_REMEDY)


def _those(array: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Return the chosen ones; without a copy if that is all of them, as it mostly is."""
    return array if chosen.all() else array.take(chosen.nonzero()[0])


_REMEDY = (
    "a file of remembered ids is damaged and was thrown away: see the log. Nothing is lost; the"
    " restart reads those ids from the lane log. If this happens again, check the disk."
)
