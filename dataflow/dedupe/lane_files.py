"""The files of one lane: what is believed at a start, what is made, what is deleted.

    <directory>/lane-003/manifest
    <directory>/lane-003/<sixteen hexadecimal digits>.run

1. A run is listed in the manifest once it is durable, and deleted once it is not listed any more.
   So after a crash at any moment the manifest names what is there; what it does not name is junk.
2. A run that is missing, damaged or foreign is thrown away, and the position falls back to where
   its entries begin in the log: from there the caller reads it again. If it is the manifest that is
   not to be believed, that is the log's start.
3. The position falls back, durably, before anything else is written. If that cannot be noted, a
   damaged file is deleted all the same: a start that misses it falls back likewise.
4. Where the directory cannot be written, rule 3 cannot hold: then all blocks are checked at once,
   so that no damage is met later, again and again, by one start after the other.
5. Names are never used twice, so a process that has lost the lane cannot write into the files of
   the next one. It may delete some: that costs the next start time, and is no danger.

Long because whatever lists, writes or deletes a file is in here: the rules above order all of it.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog

from dataflow.core.hot_ids import HotIds
from dataflow.core.lane_log import Entries
from dataflow.dedupe.background import Stopped
from dataflow.dedupe.manifest import (
    FILE_NAME,
    Manifest,
    Owner,
    Position,
    RunLine,
    Summary,
    UnusableManifestError,
    lowest,
    read_manifest,
    write_manifest,
)
from dataflow.dedupe.merging import merged
from dataflow.dedupe.run import Run
from dataflow.dedupe.run_format import DamagedRunError, RunFacts
from dataflow.dedupe.run_writer import RunWriter
from dataflow.dedupe.writing import TEMPORARY, NewFile, remove

_log = structlog.get_logger()

_RUN = ".run"
_PROBE = "probe"
_PROBE_BYTES = 64 * 1024
"""More than a manifest takes: it has a line for each run and partition of the log."""
_PIECE_ROWS = 64 * 1024


class ListedRun(NamedTuple):
    """An open run and where its entries begin in the log."""

    run: Run
    since: Position


class LaneFiles:
    """The runs of one lane. Each method is called by one thread at a time; `runs` by any.

    Attributes:
        runs: Replaced as a whole, never changed.
        position: Every entry of the lane below it is in `runs`.
        summary: Of the ids below the position.

    Args:
        directory: Of all lanes; made when it is needed.
        owner: What the files have to be a cache of.
        stopping: Whether long work is to be given up.
    """

    def __init__(
        self, directory: Path, owner: Owner, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._directory = directory / lane_directory(owner.lane)
        self._owner = owner
        self._stopping = stopping
        self.runs: tuple[ListedRun, ...] = ()
        self.position: Position = {}
        self.summary = Summary()
        self._given_up = False
        self._open()

    def add(self, ids: HotIds, since: Position, position: Position, summary: Summary) -> None:
        """Make a run of ids that are all committed.

        Args:
            ids: Not changed any more.
            since: None of their entries stands below this in the log.
            position: All of the lane's entries below this are in `ids` or in the runs there are.
            summary: Of all ids in `ids` and in the runs.

        Raises:
            OSError: the disk is full or failing; all is as before.
        """
        order = ids.order()
        pieces = (
            ids.take(order[start : start + _PIECE_ROWS])
            for start in range(0, len(order), _PIECE_ROWS)
        )
        made = self._write(pieces, len(ids), since)
        self._replace((), made, position, summary)

    def advance(self, position: Position, summary: Summary) -> None:
        """State that all of the lane's entries below a position are in the runs there are.

        Raises:
            OSError: the disk is full or failing; all is as before.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._replace((), (), position, summary)

    def merge(self, runs: Sequence[ListedRun], horizon_s: int) -> None:
        """Make one run of several, without what is dated before the horizon.

        Raises:
            OSError: the disk is full or failing; all is as before.
            DamagedRunError: one of them was, and was given up: the process is to end.
        """
        most = sum(each.run.facts.rows for each in runs)
        pieces = merged([each.run for each in runs], horizon_s)
        try:
            made = self._write(pieces, most, lowest([each.since for each in runs]))
        except DamagedRunError as error:
            self.give_up([each for each in runs if not _is_whole(each.run)], str(error))
            raise
        self._replace(runs, made, self.position, self._forgotten(horizon_s))

    def drop(self, runs: Sequence[ListedRun], horizon_s: int) -> None:
        """Delete runs all of whose ids are dated before the horizon.

        Raises:
            OSError: the disk is failing.
        """
        kept, summary = self._without(runs), self._forgotten(horizon_s)
        try:
            self._list(kept, self.position, summary)
        except OSError:
            # A full disk has no room for the manifest, until they are gone.
            self._delete(runs)
            self._list(kept, self.position, summary)
        self.runs, self.summary = kept, summary
        self._delete(runs)

    def give_up(self, damaged: Sequence[ListedRun], reason: str) -> None:
        """Have the log read again instead of these runs, from the next start on.

        Nobody could answer for their ids until then, so nothing changes in memory, and nothing can
        be written any more: the process is to end.
        """
        if self._given_up:
            return
        kept = self._without(damaged)
        position = lowest([self.position, *(each.since for each in damaged)])
        for each in damaged:
            _log.error("file of remembered ids is damaged", path=str(each.run.path), reason=reason)
        try:
            self._list(kept, position, _uncounted(kept, self.summary))
        except OSError as error:
            self._report(self._directory, str(error))
        # Also if the disk is too full to note it: a start that misses them reads the log as well.
        self._delete(damaged)
        self._given_up = True

    def discard(self, reason: str) -> None:
        """Throw all files away: the caller has found that they do not belong to this log."""
        old, self.runs, self.position, self.summary = self.runs, (), {}, Summary()
        self._report(self._directory, reason)
        try:
            self._list((), {}, Summary())
        except OSError as error:
            self._report(self._directory, str(error))
        else:
            self._delete(old)

    def warm(self) -> None:
        """Have the system read the files ahead."""
        for each in self.runs:
            each.run.warm()

    def _open(self) -> None:
        """Take over what a previous process has left, as far as it can be believed."""
        try:
            manifest = read_manifest(self._directory, self._owner)
        except UnusableManifestError as error:
            self._report(self._directory / FILE_NAME, str(error))
            manifest = None
        lines = manifest.runs if manifest else []
        writable = self._tidy({line.name for line in lines})
        opened, lost = [], []
        for line in lines:
            try:
                run = Run(self._directory / line.name, line.check)
                if not writable:
                    run.verify()
            except (DamagedRunError, OSError) as error:
                self._report(self._directory / line.name, str(error))
                lost.append(line)
            else:
                opened.append(ListedRun(run, line.since))
        self.runs = tuple(opened)
        if manifest:
            self.position = lowest([manifest.position, *(line.since for line in lost)])
            self.summary = manifest.summary
        if lost:
            self._strike({line.name for line in lost})

    def _tidy(self, listed: set[str]) -> bool:
        """Delete what no manifest lists; return whether the directory can be written."""
        try:
            for path in self._directory.glob("*"):
                if path.suffix in {_RUN, TEMPORARY} and path.name not in listed:
                    path.unlink()
            if self._directory.exists():
                # Not empty: on a full disk an empty file can be made, and no manifest.
                with NewFile(self._directory / _PROBE) as probe:
                    probe.write(bytes(_PROBE_BYTES), 0)
        except OSError as error:
            self._report(self._directory, str(error))
            return False
        return True

    def _strike(self, lost: set[str]) -> None:
        """State in the manifest that runs are lost, and only then delete them."""
        self.summary = _uncounted(self.runs, self.summary)
        try:
            self._list(self.runs, self.position, self.summary)
        except OSError as error:
            self._report(self._directory, str(error))  # the next start finds out the same
        else:
            for name in lost:
                remove(self._directory / name)

    def _write(self, pieces: Iterator[Entries], most_rows: int, since: Position) -> list[ListedRun]:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = int.from_bytes(os.urandom(8), "little")
        path = self._directory / f"{number:016x}{_RUN}"
        try:
            with RunWriter(path, most_rows, number) as writer:
                for piece in pieces:
                    if self._stopping():
                        raise Stopped
                    writer.append(piece)
                facts = writer.publish()
            return [ListedRun(_reopened(path, facts), since)] if facts else []
        except OSError:
            remove(path)
            raise

    def _replace(
        self,
        old: Sequence[ListedRun],
        made: Sequence[ListedRun],
        position: Position,
        summary: Summary,
    ) -> None:
        runs = (*self._without(old), *made)
        try:
            self._list(runs, position, summary)
        except OSError:
            self._delete(made)
            raise
        self.runs, self.position, self.summary = runs, position, summary
        self._delete(old)

    def _without(self, runs: Iterable[ListedRun]) -> tuple[ListedRun, ...]:
        gone = {each.run.path for each in runs}
        return tuple(each for each in self.runs if each.run.path not in gone)

    def _forgotten(self, horizon_s: int) -> Summary:
        latest_s = max(horizon_s, self.summary.horizon_s)
        return msgspec.structs.replace(self.summary, horizon_s=latest_s)

    def _list(self, runs: Iterable[ListedRun], position: Position, summary: Summary) -> None:
        if self._given_up:
            raise DamagedRunError("a file was damaged; the process is to end")
        lines = [
            RunLine(name=each.run.path.name, check=each.run.facts.check, since=each.since)
            for each in runs
        ]
        write_manifest(
            self._directory,
            Manifest(owner=self._owner, summary=summary, position=position, runs=lines),
        )

    @staticmethod
    def _delete(runs: Iterable[ListedRun]) -> None:
        for each in runs:
            remove(each.run.path)

    @staticmethod
    def _report(path: Path, reason: str) -> None:
        _log.warning(
            "file of remembered ids not used; the lane log is read instead",
            path=str(path),
            reason=reason,
        )


def _reopened(path: Path, facts: RunFacts) -> Run:
    try:
        return Run(path, facts.check)
    except DamagedRunError as error:
        raise OSError(errno.EIO, f"what was written reads otherwise: {error}", path) from error


def _uncounted(runs: Sequence[ListedRun], summary: Summary) -> Summary:
    """Return the summary once a run is lost: nobody has counted which ids the others have."""
    newest_s = max((each.run.facts.newest_s for each in runs), default=-1)
    return Summary(horizon_s=summary.horizon_s, uncounted_s=newest_s)


def _is_whole(run: Run) -> bool:
    try:
        run.verify()
    except DamagedRunError:
        return False
    return True


def lane_directory(lane: int) -> str:
    """Return the name of a lane's directory."""
    return f"lane-{lane:03d}"


def remove_unused(directory: Path, lanes: int) -> None:
    """Delete the files of lanes that there are no more, as far as that is possible."""
    used = {lane_directory(lane) for lane in range(lanes)}
    for path in directory.glob("lane-*"):
        if path.name not in used:
            shutil.rmtree(path, ignore_errors=True)
