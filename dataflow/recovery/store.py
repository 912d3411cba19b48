"""The recovery directory: locked for one process, filled if empty, refused if not whole.

Bytewax opens it after our start, and would corrupt one that two executions use.
"""

import fcntl
import os
import tempfile
from contextlib import closing
from pathlib import Path

import structlog
from bytewax.recovery import init_db_dir

from dataflow.errors import StartRefusedError
from dataflow.service.command_line import Launch

_log = structlog.get_logger()
_REMEDY = "Start with an empty directory: nothing is lost, because all remembered ids are in Kafka."
_ROOM_BYTES = 64 * 1024 * 1024
"""The store may have failed for want of room although there is some now: as its last connection
closes, SQLite folds its log in and removes it, and that may be as large as the largest epochs."""


def prepare_recovery(launch: Launch) -> int | None:
    """Lock the recovery directory for as long as the process lives, and fill an empty one.

    The store is process 0's: it is one file, whatever the number of processes, so that they can be
    more or fewer the next time. The others write through process 0; their directories hold nothing
    but the lock, unless they share it.

    Returns:
        The lock's file descriptor; None without a recovery directory.

    Raises:
        StartRefusedError: it is in use, not writable, not a directory, or not complete.
    """
    directory = launch.recovery_dir
    if directory is None:
        _log.info("no recovery directory: the start resumes from the offsets in Kafka")
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / f".lock-{launch.process_id}", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StartRefusedError(
            f"BYTEWAX_RECOVERY_DIRECTORY: cannot write to {directory}: {error.strerror}"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise StartRefusedError(
            f"BYTEWAX_RECOVERY_DIRECTORY: {directory} is in use by another execution of this flow"
            f" (process id {launch.process_id}). Two executions would corrupt it; stop the other"
            " one, or give this one its own directory and its own KAFKA_GROUP_ID."
        ) from error
    _fill(directory, launch)
    return lock


def _fill(directory: Path, launch: Launch) -> None:
    if launch.process_id > 0:
        return  # also if it shares process 0's directory, which may be at work there
    paths = sorted(directory.glob("part-*.sqlite3"))
    lost = {f"part-{number}.sqlite3" for number in range(max(map(_look_into, paths), default=0))}
    lost -= {path.name for path in paths}
    if lost:
        names = ", ".join(sorted(lost))
        raise StartRefusedError(f"BYTEWAX_RECOVERY_DIRECTORY: {directory} lacks {names}. {_REMEDY}")
    if not paths:
        # All of it at once: a file that was only begun would be refused for ever.
        with tempfile.TemporaryDirectory(dir=directory, prefix=".init-") as scratch:
            init_db_dir(scratch, 1)  # type: ignore[no-untyped-call]
            (Path(scratch) / "part-0.sqlite3").rename(directory / "part-0.sqlite3")
        _log.info("recovery directory initialised", directory=str(directory))


def _look_into(path: Path) -> int:
    """Return the number of files in the set that this recovery partition belongs to."""
    import sqlite3  # noqa: PLC0415  (not needed in an empty directory)

    try:
        if not os.access(path, os.W_OK):
            raise PermissionError("it is not writable")
        with closing(sqlite3.connect(path)) as store:
            [(count,)] = store.execute("SELECT part_count FROM parts")
    except (OSError, ValueError, sqlite3.Error) as error:
        raise StartRefusedError(
            f"BYTEWAX_RECOVERY_DIRECTORY: {path} is not a usable recovery partition:"
            f" {error}. {_REMEDY}"
        ) from error
    return int(count)


def full_disk(launch: Launch) -> str | None:
    """Return a message that there is no room left for the recovery store, if so."""
    directory = launch.recovery_dir
    if directory is None:
        return None
    try:
        disk = os.statvfs(directory)
    except OSError as error:
        return f"BYTEWAX_RECOVERY_DIRECTORY: cannot read {directory}: {error.strerror}"
    free = disk.f_bavail * disk.f_frsize
    if free >= _ROOM_BYTES:
        return None
    return (
        f"BYTEWAX_RECOVERY_DIRECTORY: only {free} bytes are free on the disk of {directory}; free"
        " some space, then start again: nothing is lost"
    )
